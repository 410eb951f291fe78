"""How Airflow sees the package, and what is said where Airflow is missing."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.airflow.conftest import AirflowHome

import redrive.airflow
from redrive.airflow.provider_info import get_provider_info


def test_airflow_lists_the_provider(bare_airflow: AirflowHome) -> None:
    listed = json.loads(bare_airflow.run("airflow", "providers", "list", "-o", "json"))

    assert "redrive" in [provider["package_name"] for provider in listed]


def test_every_module_and_class_that_the_provider_names_is_there(
    bare_airflow: AirflowHome,
) -> None:
    info = get_provider_info()
    names = json.dumps([info["operators"], info["triggers"], info["task-decorators"]])
    script = (
        "import importlib, json, sys\n"
        "operators, triggers, decorators = json.loads(sys.argv[1])\n"
        "for entry in operators + triggers:\n"
        "    for module in entry['python-modules']: importlib.import_module(module)\n"
        "for entry in decorators:\n"
        "    module, _, name = entry['class-name'].rpartition('.')\n"
        "    getattr(importlib.import_module(module), name)\n"
        "import redrive.airflow\n"
        "for name in redrive.airflow.__all__: getattr(redrive.airflow, name)\n"
    )

    bare_airflow.run(sys.executable, "-c", script, names)


def test_a_trigger_is_made_again_from_what_it_serialized(bare_airflow: AirflowHome) -> None:
    script = (
        "import json\n"
        "from redrive.airflow import LangGraphResultTrigger\n"
        "first = LangGraphResultTrigger(kafka_conn_id='c', results_topic='r', event_id='e',\n"
        "                               offsets=[(0, 5), (1, 7)], deadline_ms=12,\n"
        "                               fire_after_ms=13, asked=['events', 3, 1042],\n"
        "                               workflow_id='w', workflow_run_id='r')\n"
        "path, kept = first.serialize()\n"
        "assert path == 'redrive.airflow.triggers.LangGraphResultTrigger', path\n"
        "assert kept['fire_after_ms'] == 13, kept\n"
        "again = LangGraphResultTrigger(**json.loads(json.dumps(kept)))\n"
        "assert again.serialize() == first.serialize()\n"
        "for new in 'asked', 'workflow_id', 'workflow_run_id':\n"
        "    del kept[new]  # serialized by the versions before\n"
        "    assert getattr(LangGraphResultTrigger(**kept), new) is None\n"
    )

    bare_airflow.run(sys.executable, "-c", script)


def test_mapped_tasks_have_no_retries_but_those_that_are_asked_for(
    bare_airflow: AirflowHome,
) -> None:
    script = (
        "import os\n"
        "os.environ['AIRFLOW__CORE__DEFAULT_TASK_RETRIES'] = '7'\n"
        "from airflow.sdk import DAG\n"
        "from redrive.airflow import (\n"
        "    LangGraphOperator, langgraph_task, trigger_langgraph_workflow)\n"
        "@langgraph_task(workflow_id='w')\n"
        "def ask(number): return {'number': number}\n"
        "two = LangGraphOperator.partial\n"
        "for given, wanted in (({}, 0), ({'retries': 5}, 5)):\n"
        "    with DAG('d', default_args=given):\n"
        "        found = [\n"
        "            ask(1).operator.retries,\n"
        "            ask.expand(number=[1, 2]).operator.retries,\n"
        "            ask.expand_kwargs([{'number': 1}]).operator.retries,\n"
        "            trigger_langgraph_workflow.partial(workflow_id='w')\n"
        "                .expand(task_data=[{}, {}]).operator.retries,\n"
        "            two(task_id='p', workflow_id='w').expand(data=[{}, {}]).retries,\n"
        "        ]\n"
        "        assert found == [wanted] * 5, (given, found)\n"
        "        own = ask.override(task_id='own', retries=3).expand(number=[1])\n"
        "        assert own.operator.retries == 3\n"
    )

    bare_airflow.run(sys.executable, "-c", script)


def test_an_absurd_timeout_is_refused_by_name(bare_airflow: AirflowHome) -> None:
    script = (
        "from redrive.airflow import LangGraphOperator\n"
        "for absurd in (-1, float('nan'), float('inf'), '1' + '0' * 30 + 'd'):\n"
        "    for name in ('timeout', 'wait_first'):\n"
        "        try:\n"
        "            LangGraphOperator(task_id='t', workflow_id='w', data={}, **{name: absurd})\n"
        "        except ValueError as error:\n"
        "            assert str(error).startswith(name + ': '), error\n"
        "        else:\n"
        "            raise AssertionError((name, absurd))\n"
    )

    bare_airflow.run(sys.executable, "-c", script)


def test_without_airflow_the_error_names_the_extra() -> None:
    script = (
        "import sys\n"
        "sys.modules['airflow'] = None\n"
        "from redrive.errors import MissingExtraError\n"
        "try:\n"
        "    from redrive.airflow import LangGraphOperator\n"
        "except MissingExtraError as error:\n"
        "    print(error)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300
    )

    assert done.stdout.strip() == "apache-airflow is not installed: install redrive[airflow]"


def test_the_public_names_are_sorted() -> None:
    assert redrive.airflow.__all__ == sorted(redrive.airflow.__all__)
