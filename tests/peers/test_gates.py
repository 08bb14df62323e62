"""Gates: what Argo Rollouts, Flagger and a CronJob make of the verdicts of a real server, with the manifests of
deploy/gates."""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from metrics_server.metrics.sequential.estimate import ShareEstimate
from metrics_server.metrics.sequential.verdict import Arm, Verdict, compare
from tests.conftest import Serve
from tests.support import argo_rollouts, flagger, kustomize
from tests.support.argo_rollouts import AnalysisRun
from tests.support.canaries import BETTER, EQUAL, FEW, WORSE, Canary
from tests.support.docs_pages import blocks, page
from tests.support.kubernetes_api import Cluster, running_cluster
from tests.support.manifests import DEPLOY
from tests.support.monitoring import Prometheus
from tests.support.numbers import assert_same_text
from tests.support.running import ROOT, RunningServer, free_port, peer
from tests.support.waiting import until

GATES = DEPLOY / "gates"
PAGE = page("how-to/gate-a-rollout.md")
ADDRESS = "http://feedback-metrics-server.metrics.svc.cluster.local"
PETS = {"namespace": "models", "deployment": "pets", "model": "classifier"}
CHURN = {"namespace": "crm", "deployment": "churn", "model": "predictor"}
TOKEN = "s3cret"  # noqa: S105 - of a server of the tests
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PROMOTED, ROLLED_BACK = (
    {"annotations": {"release": "v7"}},
    {"annotations": {"release": "v7"}, "canaryTrafficPercent": 0},
)
CRON_JOB = "/apis/batch/v1/namespaces/crm/cronjobs/churn-verdict"
INFERENCE_SERVICE = "/apis/serving.kserve.io/v1beta1/namespaces/crm/inferenceservices/churn"

(TEMPLATE,) = kustomize.load(GATES / "argo-rollouts/analysis-template.yaml")
(ROLLOUT,) = kustomize.load(GATES / "argo-rollouts/rollout.yaml")
JOB, *_ = kustomize.load(GATES / "kserve/cron-job.yaml")
POD = JOB["spec"]["jobTemplate"]["spec"]["template"]["spec"]
(METRIC_TEMPLATE,) = kustomize.load(GATES / "flagger/metric-template.yaml")


def _guarded(serve: Serve, directory: Path) -> RunningServer:
    """A server that wants a token of who reads."""
    (directory / "reader").write_text(TOKEN)
    return serve("--store", "memory://", "--read_token_file", str(directory / "reader"))


# Argo Rollouts


def _arguments(server_url: str, token: str = TOKEN) -> dict[str, str]:
    """Those of the step of the Rollout, with hashes as its controller puts them there."""
    (step,) = [step["analysis"] for step in ROLLOUT["spec"]["strategy"]["canary"]["steps"] if "analysis" in step]
    assert step["templates"] == [{"templateName": TEMPLATE["metadata"]["name"]}]
    given = {
        one["name"]: one["value"] if "value" in one else one["valueFrom"]["podTemplateHashValue"].lower()
        for one in step["args"]
    }
    return {**given, "address": server_url, "token": token}


def _canary(server: RunningServer) -> Canary:
    return Canary(server, labels=PETS, baseline="stable", candidate="latest", headers=BEARER)


def test_argo_aborts_a_worse_release_at_once(serve: Serve, tmp_path: Path) -> None:
    """Before its first event, and with a few labels, a release is neither good nor bad; the first `worse` ends it."""
    server = _guarded(serve, tmp_path)
    canary, run = _canary(server), AnalysisRun(TEMPLATE, _arguments(server.url))
    assert run.measure() is argo_rollouts.Phase.INCONCLUSIVE
    canary.label(FEW, FEW)
    assert run.measure() is argo_rollouts.Phase.INCONCLUSIVE
    canary.label(WORSE)
    assert run.run() is argo_rollouts.Phase.FAILED
    assert run.counts.total() == 3


@pytest.mark.parametrize(("labels", "verdict", "margin"), [(BETTER, "better", "0.02"), (EQUAL, "equivalent", "0.1")])
def test_argo_goes_on_with_a_release_that_is_good(
    serve: Serve, tmp_path: Path, labels: tuple[int, int], verdict: str, margin: str
) -> None:
    """The first `better` or `equivalent` is a success, within the margin that the Rollout says."""
    server = _guarded(serve, tmp_path)
    canary, run = _canary(server), AnalysisRun(TEMPLATE, {**_arguments(server.url), "margin": margin})
    canary.begin()
    assert run.measure() is argo_rollouts.Phase.INCONCLUSIVE
    canary.label(labels, baseline=(960, 240))
    (found,) = json.loads(
        server.get(f"/v1/models/models/pets/verdict?predictor=latest&baseline=stable&margin={margin}", BEARER).body
    )["verdicts"]
    assert found["verdict"] == verdict
    assert run.run() is argo_rollouts.Phase.SUCCESSFUL
    assert run.counts.total() == 2


def test_argo_pauses_a_release_of_which_a_day_says_nothing(serve: Serve, tmp_path: Path) -> None:
    """288 looks, five minutes apart, end inconclusive, which pauses the Rollout: nothing is promoted or rolled back."""
    server = _guarded(serve, tmp_path)
    _canary(server).label(FEW, FEW)
    run = AnalysisRun(TEMPLATE, _arguments(server.url))
    assert run.run() is argo_rollouts.Phase.INCONCLUSIVE
    assert run.counts == {argo_rollouts.Phase.INCONCLUSIVE: 288}
    assert run.metric["interval"] == "5m"


def test_argo_of_old_waits_for_the_day_and_decides_the_same(serve: Serve, tmp_path: Path) -> None:
    """Without consecutiveSuccessLimit, which 1.8 brought, one `better` in a day is a success at its end."""
    server = _guarded(serve, tmp_path)
    template = copy.deepcopy(TEMPLATE)
    del template["spec"]["metrics"][0]["consecutiveSuccessLimit"]
    canary, run = _canary(server), AnalysisRun(template, _arguments(server.url))
    for _ in range(287):
        run.measure()
    assert run.phase is argo_rollouts.Phase.RUNNING
    canary.label(BETTER)
    run.measure()
    assert run.phase is argo_rollouts.Phase.SUCCESSFUL


def test_argo_outlasts_a_server_that_restarts(serve: Serve, tmp_path: Path) -> None:
    """No answer for an hour, 10 seconds apart, is an error, and less than that none; a wrong token is no answer."""
    server = _guarded(serve, tmp_path)
    canary = _canary(server)
    arguments = _arguments(server.url)
    run = AnalysisRun(TEMPLATE, arguments | {"token": "of-another"})
    for _ in range(360):
        assert run.measure() is argo_rollouts.Phase.ERROR
    assert run.phase is argo_rollouts.Phase.RUNNING
    assert run.run() is argo_rollouts.Phase.ERROR
    assert run.counts.total() == 361

    run = AnalysisRun(TEMPLATE, arguments | {"address": f"http://127.0.0.1:{free_port()}"})
    assert run.measure() is argo_rollouts.Phase.ERROR
    canary.label(BETTER)
    run.metric = AnalysisRun(TEMPLATE, arguments).metric
    assert run.run() is argo_rollouts.Phase.SUCCESSFUL


def test_argo_has_a_phase_for_each_verdict() -> None:
    """Only these promote, only that rolls back, and all else is for a person."""
    (metric,) = TEMPLATE["spec"]["metrics"]
    phases = {verdict.value: argo_rollouts.judged(metric, verdict.value) for verdict in Verdict}
    assert phases == {
        "better": argo_rollouts.Phase.SUCCESSFUL,
        "equivalent": argo_rollouts.Phase.SUCCESSFUL,
        "worse": argo_rollouts.Phase.FAILED,
        "undecided": argo_rollouts.Phase.INCONCLUSIVE,
        "incomparable": argo_rollouts.Phase.INCONCLUSIVE,
    }


# Flagger


def _ran(command: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [peer("bash"), "-c", command],
        env={**os.environ, **(environment or {})},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


class Flagger:
    """Releases of deployments that are like the example but for their name."""

    def __init__(self, server: RunningServer, prometheus: Prometheus, token_file: Path) -> None:
        self._server = server
        self._prometheus = prometheus
        self._token_file = token_file

    def release(self, deployment: str) -> flagger.Release:
        text = (GATES / "flagger/canary.yaml").read_text().replace("pets", deployment)
        canary = next(found for found in yaml.safe_load_all(text) if found["kind"] == "Canary")
        return flagger.Release(canary, METRIC_TEMPLATE, queried=self._value, runs=self._runs)

    def _value(self, query: str) -> float | None:
        return next(iter(self._prometheus.values(query).values()), None)

    def _runs(self, command: str) -> bool:
        assert ADDRESS in command
        here = command.replace(ADDRESS, self._server.url)
        here = here.replace("/etc/feedback-metrics-server/token", str(self._token_file))
        return _ran(here).returncode == 0


def _of_flagger(server: RunningServer, deployment: str) -> Canary:
    return Canary(server, labels={**PETS, "deployment": deployment}, baseline="main", candidate="v7", headers=BEARER)


def test_flagger_waits_for_a_verdict_and_acts_on_it(serve: Serve, tmp_path: Path) -> None:
    """A release of which nothing is known gets its share of traffic, and no more, for as long as it takes; three looks
    at a worse one roll it back, and the first at a better one promotes it. The query runs in a real Prometheus."""
    peer("jq")
    names = ("young", "bad", "good")
    (declared,) = [code for language, code in blocks(PAGE) if code.startswith("deployments:")]
    heading, entry = declared.splitlines()
    (tmp_path / "models.yaml").write_text("\n".join([heading, *(entry.replace("pets", name) for name in names)]))
    (tmp_path / "reader").write_text(TOKEN)
    options = "--config", "models.yaml", "--read_token_file", str(tmp_path / "reader")
    server = serve("--store", "memory://", *options)
    canaries = {name: _of_flagger(server, name) for name in names}
    job = {"authorization": {"credentials": TOKEN}}
    prometheus = Prometheus(tmp_path, server.port, job=job)
    try:
        known = Flagger(server, prometheus, tmp_path / "reader")
        releases = {name: known.release(name) for name in names}
        for _ in range(10):  # not even the candidate's first event has come
            for release in releases.values():
                release.advance()
        assert {(one.phase, one.weight, one.failed_checks) for one in releases.values()} == {
            (flagger.Phase.WAITING, 25, 0)
        }
        canaries["young"].label(FEW, FEW)
        canaries["bad"].label(WORSE)
        canaries["good"].label(BETTER)
        until(lambda: prometheus.values('model_canary_verdict{verdict="worse",deployment_name="bad"} == 1'), 60, "none")
        for _ in range(3):
            assert releases["bad"].phase is flagger.Phase.WAITING
            releases["bad"].advance()
        releases["bad"].advance()
        releases["good"].advance()
        releases["young"].advance()
    finally:
        prometheus.stop()
    assert (releases["bad"].phase, releases["bad"].weight) == (flagger.Phase.FAILED, 0)
    assert releases["good"].phase is flagger.Phase.PROMOTING
    assert (releases["young"].phase, releases["young"].failed_checks) == (flagger.Phase.WAITING, 0)


def test_flagger_rolls_nothing_back_for_two_queries_without_an_answer() -> None:
    """A query that finds nothing is a failed check, so ours always finds something; two of those are forgiven."""
    canary = next(found for found in kustomize.load(GATES / "flagger/canary.yaml") if found["kind"] == "Canary")
    answers: Iterator[float | None] = iter([0.0, None, None, 0.0, 0.0])
    release = flagger.Release(canary, METRIC_TEMPLATE, queried=lambda _: next(answers), runs=lambda _: False)
    for _ in range(6):
        release.advance()
    assert (release.phase, release.failed_checks) == (flagger.Phase.WAITING, 2)


# KServe and Seldon


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """An InferenceService as the page shows it, and the CronJob; kubectl finds them by KUBECONFIG."""
    with running_cluster(tmp_path) as (found, _):
        (service,) = [yaml.safe_load(code) for language, code in blocks(PAGE) if "kind: InferenceService" in code]
        found.objects[INFERENCE_SERVICE] = service
        found.objects[CRON_JOB] = copy.deepcopy(JOB)
        yield found


def _decide(server_url: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Runs the script as the CronJob does, with what stands in its environment."""
    (container,) = POD["containers"]
    environment = {"KUBECONFIG": str(directory / "kubeconfig")}
    for entry in container["env"]:
        given = {**environment, "ADDRESS": server_url, "TOKEN_FILE": str(directory / "reader"), "HOME": str(directory)}
        text = re.sub(r"\$\((\w+)\)", lambda found, known=environment: known[found[1]], entry["value"])
        environment[entry["name"]] = given.get(entry["name"], text)
    assert container["command"] == ["sh", "/gate/decide.sh"]
    for name in ("curl", "jq", "kubectl"):
        peer(name)
    return _ran(f"sh {shlex.quote(str(GATES / 'kserve/decide.sh'))}", environment)


def _spec(cluster: Cluster) -> dict[str, Any]:
    """What decides on traffic in the InferenceService."""
    predictor = cluster.objects[INFERENCE_SERVICE]["spec"]["predictor"]
    return {name: predictor[name] for name in ("annotations", "canaryTrafficPercent") if name in predictor}


@pytest.mark.parametrize(("labels", "spec"), [(BETTER, PROMOTED), (WORSE, ROLLED_BACK)], ids=["better", "worse"])
def test_the_cron_job_decides_once(
    serve: Serve, cluster: Cluster, tmp_path: Path, labels: tuple[int, int], spec: dict[str, Any]
) -> None:
    """Undecided, it changes nothing; then it promotes or rolls back, and suspends itself."""
    server = _guarded(serve, tmp_path)
    canary = Canary(server, labels=CHURN, baseline="v6", candidate="v7", headers=BEARER)
    before = copy.deepcopy(cluster.objects)
    assert _decide(server.url, tmp_path).stdout == "churn v7: undecided\n"
    assert cluster.objects == before
    canary.label(labels)
    decided = _decide(server.url, tmp_path)
    assert decided.returncode == 0, decided.stderr
    assert _spec(cluster) == spec
    assert cluster.objects[CRON_JOB]["spec"]["suspend"] is True
    assert cluster.done == ["patch InferenceService/churn", "patch CronJob/churn-verdict"]


def test_the_cron_job_leaves_another_release_alone(serve: Serve, cluster: Cluster, tmp_path: Path) -> None:
    """When the next release is there already, and when there is no answer, it fails, and nothing changes."""
    server = _guarded(serve, tmp_path)
    assert _decide(f"http://127.0.0.1:{free_port()}", tmp_path).returncode != 0
    Canary(server, labels=CHURN, baseline="v6", candidate="v7", headers=BEARER).label(WORSE)
    cluster.objects[INFERENCE_SERVICE]["spec"]["predictor"]["annotations"]["release"] = "v8"
    before = copy.deepcopy(cluster.objects)
    assert _decide(server.url, tmp_path).returncode != 0
    assert cluster.objects == before


# The page


def _commands(word: str) -> list[str]:
    return [code for language, code in blocks(PAGE) if language == "sh" and code.startswith(word)]


def test_the_question_of_the_page_is_answered(serve: Serve) -> None:
    """The command prints what the page says."""
    server = serve("--store", "memory://")
    Canary(server, labels=CHURN, baseline="v6", candidate="v7").label(WORSE)
    (command,) = _commands("curl")
    (output,) = [code for language, code in blocks(PAGE) if language == "text" and code.startswith("worse")]
    peer("jq")
    assert_same_text(_ran(command.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")).stdout, output)


def test_the_commands_of_the_page_shift_traffic(cluster: Cluster, tmp_path: Path) -> None:
    """Each pair of patches, by a real kubectl: the first promotes, the second rolls back."""
    flowers, iris = (kustomize.load(DEPLOY / f"examples/{name}/canary.yaml")[0] for name in ("kserve", "seldon"))
    places = {
        INFERENCE_SERVICE: cluster.objects[INFERENCE_SERVICE],
        "/apis/serving.kserve.io/v1beta1/namespaces/models/inferenceservices/flowers": flowers,
        "/apis/machinelearning.seldon.io/v1/namespaces/seldon/seldondeployments/iris": iris,
    }
    commands = [code for code in _commands("kubectl") if " patch " in code]
    specs = []
    for command, (place, found) in zip(commands, [each for each in places.items() for _ in range(2)], strict=True):
        cluster.objects[place] = copy.deepcopy(found)
        ran = _ran(f"{shlex.quote(peer('kubectl'))} {command.removeprefix('kubectl ')}", _kubeconfig(tmp_path))
        assert ran.returncode == 0, ran.stderr
        specs.append(cluster.objects[place]["spec"])
    churn, flowers_now, iris_now = specs[:2], specs[2:4], specs[4:]
    assert [spec["predictor"].get("canaryTrafficPercent") for spec in churn] == [None, 0]
    assert [spec["predictor"]["annotations"]["arm"] for spec in flowers_now] == ["canary", "main"]
    assert not [spec for spec in flowers_now if "canary" in spec]
    assert [[each["traffic"] for each in spec["predictors"]] for spec in iris_now] == [[0, 100], [100, 0]]


def test_the_script_becomes_a_config_map() -> None:
    """The command of the page makes the ConfigMap that the CronJob mounts."""
    (command,) = [code.strip() for code in _commands("kubectl") if " create " in code]
    peer("kubectl")
    made = json.loads(_ran(f"{command} --dry-run=client --output json").stdout)
    assert made["metadata"]["namespace"] == JOB["metadata"]["namespace"]
    assert {"name": made["metadata"]["name"]} in [volume.get("configMap") for volume in POD["volumes"]]
    assert made["data"] == {"decide.sh": (GATES / "kserve/decide.sh").read_text()}


def _kubeconfig(directory: Path) -> dict[str, str]:
    return {"KUBECONFIG": str(directory / "kubeconfig"), "HOME": str(directory)}


def test_the_page_shows_what_stands_in_the_files() -> None:
    """The excerpts are those of the examples."""
    shown = [yaml.safe_load(code) for language, code in blocks(PAGE) if language == "yaml"]
    canary = next(found for found in kustomize.load(GATES / "flagger/canary.yaml") if found["kind"] == "Canary")
    assert ROLLOUT["spec"]["strategy"]["canary"]["steps"] in shown
    assert {"metrics": canary["spec"]["analysis"]["metrics"]} in shown


def test_the_page_says_how_many_labels_it_takes() -> None:
    """Each row of the table is what the intervals need, to two digits, of shares that are exactly these."""
    rows = re.findall(r"^\| ([\d.]+) and ([\d.]+) \| ([\d.]+) \| `(\w+)` \| ([\d,]+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 6
    for theirs, ours, margin, verdict, said in rows:
        count = int(said.replace(",", ""))
        tenth = count // 10
        verdicts = [_verdict(float(ours), float(theirs), n, float(margin)) for n in (count - tenth, count + tenth)]
        assert verdicts == [Verdict.UNDECIDED, verdict]


def _verdict(ours: float, theirs: float, count: int, margin: float) -> Verdict:
    """A quarter of the traffic is the candidate's, and all of it is labelled."""
    arms = [
        Arm(ShareEstimate(round(share * labels), labels), labels, labels)
        for share, labels in ((ours, count), (theirs, 3 * count))
    ]
    return compare(*arms, margin=margin)
