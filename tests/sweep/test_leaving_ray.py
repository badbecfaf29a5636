"""A sweep's driver lives on when it leaves the cluster, whatever its other threads do."""

import subprocess
import sys

LEAVE = """
import gc, threading, time
import ray
from hardtune.sweep import cluster

class Cycle:
    pass

def collect():  # at the worst moment: Ray is about to end its core
    while ray.is_initialized():
        time.sleep(0)
    gc.collect()

with cluster.connected(None):
    gc.disable()
    for number in range(3000):  # as Tune leaves them
        cycle = Cycle()
        cycle.itself, cycle.reference = cycle, ray.put(number)
    del cycle
    thread = threading.Thread(target=collect)
    thread.start()
thread.join()
print("left, and lives on")
"""


def test_a_thread_that_collects_garbage_while_ray_shuts_down_does_not_end_the_process():
    done = subprocess.run([sys.executable, "-c", LEAVE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "left, and lives on" in done.stdout
