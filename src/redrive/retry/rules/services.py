"""AWS: the codes of its services, and the errors of botocore; what Azure's clients raise."""

from __future__ import annotations

from redrive.retry.kinds import Kind
from redrive.retry.rules.rule_verdict import RuleVerdict, look, short_name

__all__ = ["AWS_CODES", "CLASSES", "read_aws"]

CLASSES: dict[str, Kind] = {
    "botocore.SSLError": Kind.PERMANENT,
    "botocore.ConnectTimeoutError": Kind.TIMEOUT,
    "botocore.ReadTimeoutError": Kind.TIMEOUT,
    "botocore.ConnectionError": Kind.TRANSIENT,
    "botocore.HTTPClientError": Kind.TRANSIENT,
    "botocore.ChecksumError": Kind.TRANSIENT,
    "botocore.FlexibleChecksumError": Kind.TRANSIENT,
    # Damaged on its way: a frame of an event stream.
    "botocore.ParserError": Kind.TRANSIENT,
    # A body that ended early, and the metadata service of the machine.
    "botocore.IncompleteReadError": Kind.TRANSIENT,
    "botocore.BadIMDSRequestError": Kind.TRANSIENT,
    "botocore.MetadataRetrievalError": Kind.TRANSIENT,
    "botocore.CapacityNotAvailableError": Kind.TRANSIENT,
    "botocore.CredentialRetrievalError": Kind.UNKNOWN,
    "botocore.BotoCoreError": Kind.PERMANENT,
    "azure.core.ServiceRequestTimeoutError": Kind.TIMEOUT,
    "azure.core.ServiceResponseTimeoutError": Kind.TIMEOUT,
    "azure.core.ServiceRequestError": Kind.TRANSIENT,
    "azure.core.ServiceResponseError": Kind.TRANSIENT,
    "azure.core.IncompleteReadError": Kind.TRANSIENT,
}

# botocore's own lists (retries/standard.py): throttling often comes with status 400.
AWS_CODES: dict[str, Kind] = {
    **dict.fromkeys(
        (
            "BandwidthLimitExceeded",
            "EC2ThrottledException",
            "LimitExceededException",
            "PriorRequestNotComplete",
            "ProvisionedThroughputExceededException",
            "RequestLimitExceeded",
            "RequestThrottled",
            "RequestThrottledException",
            "SlowDown",
            "ThrottledException",
            "Throttling",
            "ThrottlingException",
            "TooManyRequestsException",
        ),
        Kind.RATE_LIMITED,
    ),
    "InternalError": Kind.TRANSIENT,
    # In an event stream they come without a status.
    "InternalServerException": Kind.TRANSIENT,
    "ServiceUnavailableException": Kind.TRANSIENT,
    "ModelStreamErrorException": Kind.TRANSIENT,
    # What the model wrote could not be used: once more.
    "ModelErrorException": Kind.UNKNOWN,
    "ModelTimeoutException": Kind.TIMEOUT,
    "ValidationException": Kind.PERMANENT,
    "ModelNotReadyException": Kind.TRANSIENT,
    "TransactionInProgressException": Kind.TRANSIENT,
    "RequestTimeout": Kind.TIMEOUT,
    "RequestTimeoutException": Kind.TIMEOUT,
}


def read_aws(exc: BaseException) -> RuleVerdict | None:
    """Judge by the code that an AWS service sent."""
    response = look(exc, "response")
    error = response.get("Error") if isinstance(response, dict) else None
    code = error.get("Code") if isinstance(error, dict) else None
    if not isinstance(code, str):
        return None
    # An event stream writes them in camelCase.
    code = code[:1].upper() + code[1:]
    if code not in AWS_CODES:
        return None
    kind = AWS_CODES[code]
    return RuleVerdict(
        kind, f"aws:{code}", f"{short_name(exc)} with AWS code {code} is {kind.value}"
    )
