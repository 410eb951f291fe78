"""Where an error was raised: the client whose code failed, by the names of its frames.

An AttributeError in a node is a bug of the node. The same error in the client of a service is an
answer that the client could not read: the node is not to blame, and the next answer may be whole.
"""

from __future__ import annotations

import sys
from collections import deque
from functools import lru_cache

__all__ = ["CLIENTS", "client_of", "is_client", "origin"]

# Of the innermost frames so many are looked at.
_MOST_FRAMES = 64

# They work for whoever calls them: the caller is to blame. So is the standard library.
_NEUTRAL = frozenset(
    {
        *("anyio", "attr", "attrs", "backoff", "cattrs", "dateutil", "h11", "h2", "importlib"),
        *("jiter", "jsonpatch", "jsonschema", "msgspec", "orjson", "partial_json_parser"),
        *("proto", "pydantic", "pydantic_core", "pydantic_settings", "simplejson", "sniffio"),
        *("stamina", "tenacity", "typing_extensions", "typing_inspection", "wrapt", "yaml"),
    }
)

# Packages, or parts of them, that speak with a service or read what a model wrote. Every package
# `langchain_…` beside langchain-core is one as well.
CLIENTS = frozenset(
    {
        # Language models.
        *("ai21", "aleph_alpha_client", "anthropic", "cerebras", "cohere", "dashscope", "deepseek"),
        *("fireworks", "groq", "huggingface_hub", "ibm_watsonx_ai", "litellm", "mistralai"),
        *("ollama", "openai", "openrouter", "portkey_ai", "replicate", "sambanova", "together"),
        *("vertexai", "volcenginesdkarkruntime", "voyageai", "writerai", "xai_sdk", "zhipuai"),
        # What reads a model's answer for a node.
        *("dspy", "guardrails", "instructor", "magentic", "marvin", "outlines", "pydantic_ai"),
        *("langchain.agents", "langchain_classic.agents", "langchain_classic.output_parsers"),
        *("langchain_core.embeddings", "langchain_core.language_models"),
        *("langchain_core.output_parsers", "langchain_core.tools", "langgraph.prebuilt.tool_node"),
        *("llama_index.core.output_parsers", "llama_index.core.program", "llama_index.embeddings"),
        *("llama_index.llms", "semantic_kernel.connectors", "trustcall"),
        # Tools, searches, stores and other services.
        *("a2a", "e2b", "exa_py", "fastmcp", "firecrawl", "github", "googlemaps", "googlesearch"),
        *(
            "jira",
            "langgraph_sdk",
            "langsmith",
            "mcp",
            "notion_client",
            "pinecone",
            "qdrant_client",
        ),
        *("chromadb.api", "elastic_transport", "elasticsearch", "opensearchpy", "serpapi"),
        *("simple_salesforce", "slack_sdk", "stripe", "tavily", "twilio", "weaviate", "wikipedia"),
        # Clouds.
        *("aioboto3", "aiobotocore", "azure", "boto3", "botocore", "google.ai", "google.api_core"),
        *("google.auth", "google.cloud", "google.genai", "google.generativeai", "google.oauth2"),
        *("googleapiclient", "s3transfer"),
        # HTTP and gRPC.
        *("aiohttp", "grpc", "httpcore", "httpcore2", "httpx", "httpx2", "httpx_sse", "requests"),
        *("urllib3", "websockets"),
    }
)
_NO_CLIENTS = frozenset({"langchain_classic", "langchain_core", "langchain_text_splitters"})
_FAMILY = "langchain_"


def client_of(exc: BaseException) -> str | None:
    """Return the client in whose code the error was raised, as `CLIENTS` names it, or None."""
    module = origin(exc)
    return None if module is None else is_client(module)


def origin(exc: BaseException) -> str | None:
    """Return the module of the innermost frame that is answerable, or None.

    Passed over are the standard library and what validates or parses for its caller.
    """
    modules: deque[object] = deque(maxlen=_MOST_FRAMES)
    at = exc.__traceback__
    while at is not None:
        modules.append(at.tb_frame.f_globals.get("__name__"))
        at = at.tb_next
    for module in reversed(modules):
        if isinstance(module, str) and not _is_neutral(module.partition(".")[0]):
            return module
    return None


@lru_cache(maxsize=1024)
def is_client(module: str) -> str | None:
    """Return the entry of `CLIENTS` to which a module belongs, or None."""
    part = module
    while part:
        if part in CLIENTS:
            return part
        part = part.rpartition(".")[0]
    root = module.partition(".")[0]
    return root if root.startswith(_FAMILY) and root not in _NO_CLIENTS else None


def _is_neutral(root: str) -> bool:
    return root in _NEUTRAL or root in sys.stdlib_module_names
