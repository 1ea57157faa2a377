#!/usr/bin/env python3
"""An agent in Python: answers every message in its inbox, until it has answered COUNT of them.

Any program that follows the on-disk contract is an agent. It owns outbound.db and only reads inbound.db.

Usage: python_agent.py SESSION_FOLDER COUNT
"""
import json
import pathlib
import sqlite3
import sys
import time

POLL_S = 0.05
NEXT_SEQ_SQL = "SELECT coalesce(max(seq), 0) FROM "


def connect(path, mode):
    """Rollback journal (SQLite's default), never WAL: a host refuses session files in WAL mode."""
    return sqlite3.connect(f"file:{path}?mode={mode}", uri=True, timeout=5, isolation_level=None)


def next_seq(inbound, outbound):
    """A seq is unique over both tables; the host's are even, an agent's are odd."""
    highest = max(inbound.execute(NEXT_SEQ_SQL + "messages_in").fetchone()[0],
                  outbound.execute(NEXT_SEQ_SQL + "messages_out").fetchone()[0])
    return highest + 1 if highest % 2 == 0 else highest + 2


def acknowledge(outbound, message_id, status):
    outbound.execute("INSERT OR REPLACE INTO processing_ack VALUES (?, ?, datetime('now'))", (message_id, status))


def answer(inbound, outbound, row):
    """The answer goes where the message came from; its row and the acknowledgement are one commit."""
    message_id, channel_type, platform_id, thread_id, content = row
    acknowledge(outbound, message_id, "processing")
    text = json.loads(content).get("text", "")
    outbound.execute("BEGIN IMMEDIATE")
    outbound.execute(
        "INSERT INTO messages_out (id, seq, in_reply_to, timestamp, kind, channel_type, platform_id, thread_id,"
        " content) VALUES (?, ?, ?, datetime('now'), 'chat', ?, ?, ?, ?)",
        (f"re-{message_id}", next_seq(inbound, outbound), message_id, channel_type, platform_id, thread_id,
         json.dumps({"text": f"You said: {text}"}, separators=(",", ":"))))
    acknowledge(outbound, message_id, "completed")
    outbound.execute("COMMIT")


def main(folder, count):
    inbound = connect(folder / "inbound.db", "ro")
    outbound = connect(folder / "outbound.db", "rw")
    answered = {row[0] for row in outbound.execute("SELECT message_id FROM processing_ack WHERE status = 'completed'")}
    while len(answered) < count:
        (folder / ".heartbeat").touch()
        due = inbound.execute(
            "SELECT id, channel_type, platform_id, thread_id, content FROM messages_in WHERE status = 'pending'"
            " AND trigger = 1 AND (process_after IS NULL OR datetime(process_after) <= datetime('now'))"
            " ORDER BY seq").fetchall()
        for row in due:
            if row[0] not in answered:
                answer(inbound, outbound, row)
                answered.add(row[0])
        time.sleep(POLL_S)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
