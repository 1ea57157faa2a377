"""The HTTP API, as its own OpenAPI document describes it, against schemathesis: requests that fit the document and some
that do not, to every path. Every answer must be one that the document has, and no request may make the host fail.

Usage: api.py NANORELAY DATA_DIR        (needs the program `schemathesis` beside this Python)
"""
import json
import pathlib
import subprocess
import sys
import urllib.request

import live

SESSIONS = [(f"sess-{n}", "slack", f"slack:C{n}") for n in range(3)]
# The same requests in every run.
SEED = 20261128
EXAMPLES_EACH = 20
RUN_DEADLINE_S = 600
CHECKS = [
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "negative_data_rejection", "unsupported_method",
]


def token(program, data):
    made = subprocess.run([program, "token", "create", "--data", str(data), "--name", "schemathesis", "--scope", "admin",
                           "--json"], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(made.stdout)["token"]


def run(program, data):
    live.make_data_dir(data, SESSIONS)
    (data / "nanorelay.toml").write_text('[channels."*"]\nkind = "console"\n')
    authorization = f"Bearer {token(program, data)}"
    with live.Serve(program, data) as host:
        for n, (session, _, _) in enumerate(SESSIONS):
            connection = live.open_session(data, session, "outbound.db")
            connection.execute("INSERT INTO messages_out (id, seq, timestamp, kind, platform_id, channel_type, content)"
                               " VALUES (?, 1, datetime('now'), 'chat', ?, 'slack', '{\"text\":\"hello\"}')",
                               (f"m-{n}", f"slack:C{n}"))
            connection.close()
        live.wait_until("all messages are delivered", lambda: len(host.deliveries()) == len(SESSIONS))
        listening = [json.loads(line) for line in host.log]
        address = next(line["address"] for line in listening if line["msg"] == "control plane listens")
        tester = pathlib.Path(sys.executable).with_name("schemathesis")
        command = [
            str(tester), "run", f"http://{address}/openapi.json", "--header", f"Authorization: {authorization}",
            "--checks", ",".join(CHECKS), "--max-examples", str(EXAMPLES_EACH), "--seed", str(SEED),
            "--generation-deterministic", "--phases", "examples,coverage,fuzzing",
            # Streams have no end, a drain waits, and a logout ends nothing here.
            "--exclude-path-regex", "(/events|/drain|/logout)$",
            "--suppress-health-check", "all", "--request-timeout", "30", "--no-color",
        ]
        subprocess.run(command, check=True, timeout=RUN_DEADLINE_S, cwd=data)
        ready = urllib.request.urlopen(f"http://{address}/readyz", timeout=live.DEADLINE_S)
        assert json.load(ready)["status"] == "ok"
        errors = [line for line in listening if line.get("level") in ("CRIT", "ERRO", "ERROR", "CRITICAL")]
        assert not errors, errors
    live.check_databases(data)
    print("the served API is what its document says")


if __name__ == "__main__":
    run(str(pathlib.Path(sys.argv[1]).resolve()), pathlib.Path(sys.argv[2]))
