"""The processes of a run watch each other: one that ends, or is not heard of, ends all."""

import atexit
import contextlib
import os
import sys
import threading
import time
from typing import Any

import jax
from jax._src import distributed  # the key-value store of jax.distributed has no public name

BEAT, ENDED, DONE = "jaxgan/beat", "jaxgan/ended", "done"
RESTART = "start every process again: the run resumes from its last checkpoint"


def leave(message: str, code: int) -> None:
    """Ends this process without waiting for collectives, and with it the others, which read why.

    Args:
      message: what this process did, as in "process 1 ended with an error".
      code: the exit code.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    client, me = _client(), jax.process_index()
    with contextlib.suppress(Exception):
        client.key_value_set(f"{ENDED}/{me}", message, allow_overwrite=True)
        # Process 0 stores the messages: they are lost when it exits.
        deadline = time.monotonic() + 15
        while me == 0 and time.monotonic() < deadline:
            if len(client.key_value_dir_get(ENDED)) >= jax.process_count():
                break
            time.sleep(0.2)
    os._exit(code)


class Watch(threading.Thread):
    """Sends heartbeats, and ends this process when another has ended.

    JAX's own watch stays for what this one cannot detect. It ends a process by SIGABRT with a page
    of addresses, and reports neither why the other ended nor what to do.
    """

    def __init__(self, timeout: int):
        """Prepares the thread.

        Args:
          timeout: seconds without a heartbeat after which a process counts as lost.
        """
        super().__init__(name="processes", daemon=True)
        self._timeout, self._stop = timeout, threading.Event()
        self._reached = 0  # how often process 0 has answered
        self._heard: dict[
            str, tuple[str, float]
        ] = {}  # last heartbeat of each process, and its time
        atexit.register(self._done)  # runs before JAX disconnects, as it was registered later

    def run(self) -> None:
        """Sends, and listens, until this process ends."""
        client, me = _client(), distributed.global_state.process_id
        count, interval = 0, self._timeout / 10
        if me:
            threading.Thread(target=self._count_silence, name="silence", daemon=True).start()
        while not self._stop.wait(interval):
            count += 1
            try:
                client.key_value_set(f"{BEAT}/{me}", str(count), allow_overwrite=True)
                ended = self._ended(client, me)
                self._reached += 1
            except Exception:
                continue  # process 0 has exited, which JAX handles, or this one is exiting
            if ended and not self._stop.is_set():
                self._follow(*ended)

    def _count_silence(self) -> None:
        """Ends this process where process 0, which all meet at, has not answered for long.

        A call to it may itself take as long. The pause of a process that was stopped and continued
        counts as two ticks at most.
        """
        seen, silent, tick = 0, 0.0, self._timeout / 20
        last = time.monotonic()
        while not self._stop.wait(tick):
            now = time.monotonic()
            silent, last = silent + min(now - last, 2 * tick), now
            if self._reached != seen:
                seen, silent = self._reached, 0.0
            if silent > self._timeout:
                print(
                    f"error: process 0 has not answered for {self._timeout} s; {RESTART}",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(1)

    def _ended(self, client: Any, me: int) -> tuple[str, str] | None:
        """Another process that has ended, and how; process 0 detects missing heartbeats."""
        for key, message in client.key_value_dir_get(ENDED):
            if key.rpartition("/")[2] != str(me):
                return key.rpartition("/")[2], message
        if me != 0:
            return None
        now = time.monotonic()
        for key, beat in client.key_value_dir_get(BEAT):
            last, since = self._heard.get(key, ("", now))
            self._heard[key] = (beat, now if beat != last else since)
            if beat not in (last, DONE):
                continue
            if beat != DONE and now - since > self._timeout:
                process = key.rpartition("/")[2]
                message = f"has sent no heartbeat for {self._timeout} s"
                client.key_value_set(f"{ENDED}/{process}", message, allow_overwrite=True)
                return process, message
        return None

    def _follow(self, process: str, message: str) -> None:
        time.sleep(0.5)  # an error that all have met is reported by each of them
        if not self._stop.is_set():
            print(f"error: process {process} {message}; {RESTART}", file=sys.stderr)
            leave(f"followed process {process}", 1)

    def _done(self) -> None:
        """Tells the others that this process has ended as it should."""
        self._stop.set()
        with contextlib.suppress(Exception):
            me = distributed.global_state.process_id
            _client().key_value_set(f"{BEAT}/{me}", DONE, allow_overwrite=True)


def _client() -> Any:
    return distributed.global_state.client
