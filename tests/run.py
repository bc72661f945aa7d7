#!/usr/bin/env python3
"""Prepares the machine, builds every test of the workspace meanwhile, and runs them all in three lanes: the registries' own suites in
one, other tests that mostly wait for real servers in another, and all that are busy, one after the other, in the third. So
neither of two cores is left idle for long, and no two that are busy meet.

Each test's output is shown when it has ended. Must never lose a failure: the exit status is 1 if any test failed, could not be
built or did not run. What is given besides is handed to every test (`tests/run.py --nocapture`).
"""

import json
import os
import subprocess
import sys
import threading
import time

# Tests of the binary, by the name of their target, that mostly wait: for JVMs to start, for sessions to expire, for news to arrive.
WAITING = {"bridges", "bridges_kubernetes", "dubbo_go", "learn", "mesh", "migration", "registries", "registry_failures"}
# Where the registries' own suites are, which wait as well.
REGISTRIES = "registries/"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def built():
    """Every test program: (target's name, its package's folder, program)."""
    command = ["cargo", "test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]
    build = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if build.returncode != 0:
        sys.exit(f"run: the tests could not be built (status {build.returncode})")
    programs = []
    for line in build.stdout.splitlines():
        said = json.loads(line) if line.startswith("{") else {}
        if said.get("reason") == "compiler-artifact" and said["profile"]["test"] and said.get("executable"):
            folder = os.path.dirname(said["manifest_path"])
            programs.append((said["target"]["name"], folder, said["executable"]))
    if not programs:
        sys.exit("run: there are no tests")
    return programs


def lane(programs, arguments, failed, lock):
    for name, folder, program in programs:
        began = time.monotonic()
        run = subprocess.run(
            [program, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        with lock:
            where = os.path.relpath(folder, ROOT)
            print(f"     Running {name} of {where} ({time.monotonic() - began:.1f} s)", flush=True)
            sys.stdout.buffer.write(run.stdout)
            sys.stdout.buffer.flush()
            if run.returncode != 0:
                failed.append(f"{name} of {where}: status {run.returncode}")


def main():
    setup = subprocess.Popen([os.path.join(ROOT, "tests/setup.sh")], cwd=ROOT, stdin=subprocess.DEVNULL)
    try:
        programs = built()
    except SystemExit:
        setup.terminate()
        raise
    if setup.wait() != 0:
        sys.exit("run: the machine could not be prepared")
    lanes = ([], [], [])
    for each in programs:
        if os.path.relpath(each[1], ROOT).startswith(REGISTRIES):
            lanes[0].append(each)
        else:
            lanes[1 if each[0] in WAITING else 2].append(each)
    failed, lock = [], threading.Lock()
    runs = [threading.Thread(target=lane, args=(each, sys.argv[1:], failed, lock)) for each in lanes]
    for each in runs:
        each.start()
    for each in runs:
        each.join()
    documented = subprocess.run(["cargo", "test", "--workspace", "--doc"], cwd=ROOT, check=False)
    if documented.returncode != 0:
        failed.append("examples in documentation")
    for each in failed:
        print(f"run: FAILED: {each}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
