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
