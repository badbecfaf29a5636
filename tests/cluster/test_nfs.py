"""The store on a real NFS mount: the same tests, in a small machine that exports a folder to itself."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NEEDED = ("linux.uml", "exportfs", "rpc.nfsd", "rpc.mountd", "insmod", "ip")
ABSENT = [tool for tool in NEEDED if shutil.which(tool) is None]

pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="mounts need root"),
    pytest.mark.skipif(bool(ABSENT), reason=f"needs {', '.join(ABSENT)} (see on_nfs.sh)"),
]


@pytest.mark.slow
def test_the_stores_tests_pass_on_nfs():
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp=/mnt/nfs/tests"]
    command = [str(HERE / "on_nfs.sh"), *tests, str(HERE.parent / "test_store.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_the_small_machines_folder_is_nfs_and_its_exit_codes_are_ours():
    look = ["bash", "-c", "stat --file-system --format=%T /mnt/nfs; exit 3"]
    done = subprocess.run([str(HERE / "on_nfs.sh"), *look], capture_output=True, text=True, timeout=600, check=False)
    assert done.stdout.strip() == "nfs", done.stdout + done.stderr
    assert done.returncode == 3


READS = """
import sys
import time
from pathlib import Path
from hardtune import Store, Treatment
from hardtune.report import records
from hardtune.report.records import Record

driver, worker = Path("/mnt/nfs"), Path("/mnt/other")
(driver / "trials").mkdir()
for number in range(2):
    assert records.read(driver / "trials", number) is None
    assert Store(driver / "store").get({"kind": "member", "number": number}) is None
    time.sleep(6 * number)
    records.write(worker / "trials", Record(number, Treatment(), "finished"))
    Store(worker / "store").put({"kind": "member", "number": number}, {})
    found = records.read(driver / "trials", number), Store(driver / "store").get({"kind": "member", "number": number})
    print(number, [one is not None for one in found])
"""


@pytest.mark.slow
def test_what_another_machine_wrote_is_seen_at_once_although_it_was_looked_for_before():
    look = [str(HERE / "on_nfs.sh"), sys.executable, "-c", READS]
    done = subprocess.run(look, capture_output=True, text=True, timeout=600, check=False)
    assert done.stdout.split("\n")[:2] == ["0 [True, True]", "1 [True, True]"], done.stdout + done.stderr
