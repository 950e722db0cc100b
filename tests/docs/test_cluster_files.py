"""The files for clusters in docs/how-to/cluster: they are what they should be, and their own
commands screen slides."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.batch.run_record import Shard

REPO = Path(__file__).resolve().parent.parent.parent
FILES = REPO / "docs" / "how-to" / "cluster"
SBATCH = sorted(FILES.glob("*.sbatch"))
MODEL = "cric-fcos-light"


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """Three small drawn slides."""
    folder = tmp_path_factory.mktemp("drawn")
    words = ("--slides", "3", "--kind", "liquid", "--size", "1024x1024")
    call = [sys.executable, "-m", "cytolibra", "synth", "--out", "slides", *words]
    env = os.environ | {"PYTHONPATH": path_with(REPO)}
    subprocess.run(call, cwd=folder, env=env, check=True, capture_output=True)
    return folder / "slides"


@pytest.fixture
def place(tmp_path, drawn):
    """A folder with ``slides``, and surroundings in which `cytolibra` is this checkout's."""
    shutil.copytree(drawn, tmp_path / "slides")
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "cytolibra"
    call = f'exec "{sys.executable}" -m cytolibra "$@" --model {MODEL}'
    tool.write_text(f"#!/usr/bin/env bash\n{call}\n", encoding="utf-8")
    tool.chmod(0o755)
    return tmp_path


def path_with(*folders):
    before = os.environ.get("PYTHONPATH")
    return os.pathsep.join(map(str, (*folders, *([before] if before else []))))


def run(call, place, **env):
    surroundings = {
        "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": path_with(REPO),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        call,
        cwd=place,
        env=os.environ | surroundings | env,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )


def screened(place, out="reports"):
    """Slides with a report, by name."""
    return sorted(path.parent.name for path in (place / out).glob("*/report.json"))


ALL = [f"slide-{number:03}.tif" for number in (1, 2, 3)]


def test_every_file_is_named_by_a_page():
    pages = [path.read_text(encoding="utf-8") for path in FILES.parent.glob("*.md")]
    for path in FILES.iterdir():
        assert any(f"(cluster/{path.name})" in page for page in pages), path.name


@pytest.mark.parametrize("path", SBATCH, ids=lambda path: path.name)
def test_slurm_scripts_are_sound(path):
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0
    if shutil.which("shellcheck"):
        done = subprocess.run(["shellcheck", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    said = directives(path)
    assert said["nodes"] == said["ntasks"] == "1"
    assert "requeue" in said


def directives(path):
    found = re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", path.read_text(encoding="utf-8"), re.M)
    return dict(found)


def test_the_arrays_parts_are_as_many_as_its_tasks():
    path = FILES / "slurm-array.sbatch"
    (parts,) = re.findall(r"^parts=(\d+)$", path.read_text(encoding="utf-8"), re.M)
    assert directives(path)["array"] == f"1-{parts}"


def parts_of_all():
    """The parts of eight to which the slides fall."""
    return [i for i in range(1, 9) if any(Shard(index=i, count=8).takes(name) for name in ALL)]


@pytest.mark.slow
def test_the_slurm_array_screens_all_slides(place):
    for task in parts_of_all():
        told = run(
            ["bash", FILES / "slurm-array.sbatch"],
            place,
            SLURM_ARRAY_TASK_ID=str(task),
            SLURM_CPUS_PER_TASK="1",
            SLIDES="slides",
            OUT="reports",
        )
        assert told.returncode == 0, told.stderr
        assert (place / "reports" / f"run.shard-{task}-of-8.json").is_file()
    assert screened(place) == ALL


@pytest.mark.slow
def test_slurm_tasks_that_share_the_slides_screen_each_once(place):
    call = ["bash", FILES / "slurm-shared.sbatch"]
    env = {"SLIDES": "slides", "OUT": "reports", "SLURM_CPUS_PER_TASK": "1"}
    first = run(call, place, SLURM_ARRAY_TASK_ID="1", **env)
    second = run(call, place, SLURM_ARRAY_TASK_ID="2", **env)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert screened(place) == ALL
    assert "3 screened" in first.stdout
    assert "3 done before" in second.stdout


def kubernetes():
    documents = yaml.safe_load_all((FILES / "kubernetes-job.yaml").read_text(encoding="utf-8"))
    return {(d["kind"], d["metadata"]["name"]): d for d in documents}


def test_the_kubernetes_job_hangs_together():
    found = kubernetes()
    job = found["Job", "cytolibra"]["spec"]
    pod = job["template"]["spec"]
    (box,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in box["volumeMounts"]} == set(volumes)
    claims = {
        v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "emptyDir" not in v
    }
    assert claims == {name for kind, name in found if kind == "PersistentVolumeClaim"}
    assert (job["completionMode"], pod["restartPolicy"]) == ("Indexed", "Never")
    assert f'/{job["completions"]}"' in box["args"][0]
    assert box["resources"]["limits"] == box["resources"]["requests"]
    assert f"runtime.threads={box['resources']['limits']['cpu']}" in box["args"][0]
    named = {rule.get("onExitCodes", {}).get("containerName", box["name"]) for rule in rules(job)}
    assert named == {box["name"]}
    paths = {mount["mountPath"] for mount in box["volumeMounts"]}
    assert {"/slides", "/reports", "/tmp"} == paths  # /tmp: CYTOLIBRA_CACHE of the Containerfile
    recipe = (REPO / "Containerfile").read_text(encoding="utf-8")
    assert "CYTOLIBRA_CACHE=/tmp/" in recipe
    assert f"--uid {pod['securityContext']['runAsUser']} " in recipe


def rules(job):
    return job["podFailurePolicy"]["rules"]


@pytest.mark.slow
def test_the_pods_command_screens_the_part_of_its_index(place):
    (box,) = kubernetes()["Job", "cytolibra"]["spec"]["template"]["spec"]["containers"]
    (script,) = box["args"]
    script = script.replace(" /slides ", " slides ").replace(" /reports ", " reports ")
    for part in parts_of_all():
        told = run([*box["command"], script], place, JOB_COMPLETION_INDEX=str(part - 1))
        assert told.returncode == 0, told.stderr
    assert screened(place) == ALL


@pytest.mark.slow
def test_snakemake_runs_the_snakefile(place):
    pytest.importorskip("snakemake", reason="needs snakemake")
    call = [sys.executable, "-m", "snakemake", "--snakefile", FILES / "Snakefile", "--cores", "2"]
    config = ["--config", "slides=slides", "out=reports", "parts=2", "threads=1"]
    told = run([*map(str, call), *config], place)
    assert told.returncode == 0, told.stderr
    assert screened(place) == ALL
    assert (place / "reports" / "run.shard-2-of-2.json").is_file()
    again = run([*map(str, call), *config], place)
    assert "Nothing to be done" in again.stderr + again.stdout


@pytest.mark.slow
def test_the_commands_of_nextflow_screen_the_slides(place):
    text = (FILES / "main.nf").read_text(encoding="utf-8")
    (script,) = re.findall(r'script:\s*"""\n(.*?)"""', text, re.S)
    values = {
        "${slides}": str(place / "slides"),
        "${out}": str(place / "reports"),
        "${parts}": "3",
        "${params.precision}": "int8",
        "${task.cpus}": "1",
    }
    for part in (1, 2, 3):
        line = script.strip()
        for name, value in (values | {"${part}": str(part)}).items():
            line = line.replace(name, value)
        assert "$" not in line
        told = run(["bash", "-euo", "pipefail", "-c", line], place)
        assert told.returncode == 0, told.stderr
    assert screened(place) == ALL


def test_rays_cluster_file_is_one_that_its_launcher_takes():
    pytest.importorskip("ray", reason="needs the extra cytolibra[ray]")
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((FILES / "ray-cluster.yaml").read_text(encoding="utf-8"))
    whole = prepare_config(config)
    validate_config(whole)
    assert whole["max_workers"] == len(config["provider"]["worker_ips"]) == config["min_workers"]
    (starts,) = (c for c in config["head_start_ray_commands"] if "ray start" in c)
    for word in ("--head", "--include-dashboard=false", "RAY_USAGE_STATS_ENABLED=0"):
        assert word in starts


def test_versions_in_the_files_are_this_one():
    from importlib.metadata import version

    ours = version("cytolibra")
    wheel = r"cytolibra-([\d.]+)-py3-none-any[.]whl"
    for path, pattern in (
        (FILES / "ray-cluster.yaml", wheel),
        (FILES / "kubernetes-job.yaml", r"cytolibra:([\d.]+)$"),
        (FILES.parent / "ray.md", wheel),
        (FILES.parent.parent / "start" / "install.md", wheel),
    ):
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(pattern, text, re.M)) == {ours}, path.name
