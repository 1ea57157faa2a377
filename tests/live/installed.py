"""The program that the Debian package has installed, started as its unit starts it: by the unit's own command, as the
unit's user, with a service manager that listens for notifications. Run as root.

Usage: installed.py NANORELAY
"""
import json
import os
import pathlib
import pwd
import re
import signal
import socket
import subprocess
import sys
import tempfile

import live

UNIT = pathlib.Path("/usr/lib/systemd/system/nanorelay.service")
DATA = pathlib.Path("/var/lib/nanorelay")
CONFIG = "/etc/nanorelay/nanorelay.toml"
# The environment file's way to configure a channel.
CHANNEL = {"NANORELAY__CHANNELS__SLACK__KIND": "jsonl", "NANORELAY__CHANNELS__SLACK__PATH": "deliveries.jsonl"}


def give_to(user, folder):
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, user.pw_uid, user.pw_gid)


def command_of_the_unit():
    line = re.search(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE).group(1)
    return line.replace("${NANORELAY_DATA}", str(DATA)).split()


def as_user(user, command, **options):
    environment = {**os.environ, **CHANNEL, "HOME": str(DATA), **options.pop("environment", {})}
    return subprocess.Popen(command, user=user.pw_uid, group=user.pw_gid, extra_groups=[], env=environment, **options)


def answer(user, *command):
    process = as_user(user, [PROGRAM, *command, "--data", str(DATA), "-o", "json"], stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate(timeout=live.DEADLINE_S)
    return process.returncode, json.loads(output or "null")


def main():
    user = pwd.getpwnam("nanorelay")
    live.make_data_dir(DATA, [("sess-1", "slack", "slack:C1")])
    give_to(user, DATA)
    agent = live.open_session(DATA, "sess-1", "outbound.db")
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        os.chmod(folder, 0o755)
        address = f"{folder}/notify"
        manager.bind(address)
        os.chmod(address, 0o777)
        manager.settimeout(live.DEADLINE_S)
        told = lambda word: next(True for _ in iter(int, 1) if word in manager.recv(4096).decode().splitlines())
        service = as_user(user, command_of_the_unit(), environment={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "2000000"})
        try:
            assert told("READY=1")
            assert told("WATCHDOG=1")
            agent.execute("INSERT INTO messages_out (id, seq, timestamp, kind, platform_id, channel_type, content) VALUES"
                          " ('m-1', 1, ?, 'chat', 'slack:C1', 'slack', '{\"text\": \"hello\"}')", (live.CREATED_AT,))
            lines = DATA / "deliveries.jsonl"
            live.wait_until("a delivery", lambda: lines.exists() and lines.read_text().count("\n") == 1)
            code, status = answer(user, "status")
            assert (code, status["process_id"]) == (0, service.pid), status
            code, findings = answer(user, "doctor", "--config", CONFIG)
            wrong = [finding for finding in findings if finding["level"] == "error"]
            assert not wrong and code in (0, 3), findings
            service.send_signal(signal.SIGTERM)
            assert told("STOPPING=1")
            assert service.wait(live.DEADLINE_S) == 0
        finally:
            service.kill()
            service.wait()
    agent.close()
    live.check_databases(DATA)
    print("installed: the unit's command delivers as the unit's user, and tells a service manager when it does")


if __name__ == "__main__":
    PROGRAM = sys.argv[1]
    main()
