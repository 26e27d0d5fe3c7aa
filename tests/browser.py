"""A headless Chromium, where there is one, driven through its own protocol over a pipe."""

import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One tab; ``profile`` is a folder of its own. A context manager."""

    def __init__(self, profile: Path):
        theirs, self._out = os.pipe()
        self._in, answers = os.pipe()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
        options += [f"--user-data-dir={profile}", "--hide-scrollbars", "--remote-debugging-pipe", "about:blank"]
        start = ["bash", "-c", f'exec "$0" "$@" 3<&{theirs} 4>&{answers}', CHROMIUM, *options]
        self._process = subprocess.Popen(start, pass_fds=(theirs, answers), stderr=subprocess.DEVNULL)
        os.close(theirs), os.close(answers)
        self._count, self._rest, self._session, self.asked_for = itertools.count(1), b"", None, []
        tab = next(one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=tab["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._session = None
        self.call("Browser.close")
        self._process.wait(300)
        os.close(self._in), os.close(self._out)

    def call(self, method: str, **parameters) -> dict:
        """The answer to a command of the protocol; addresses asked for meanwhile go to ``asked_for``."""
        command = {"id": next(self._count), "method": method, "params": parameters}
        command |= {"sessionId": self._session} if self._session else {}
        os.write(self._out, json.dumps(command).encode() + b"\0")
        while (message := self._read()).get("id") != command["id"]:
            if message.get("method") == "Network.requestWillBeSent":
                self.asked_for.append(message["params"]["request"]["url"])
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']['message']}")
        return message["result"]

    def _read(self) -> dict:
        while b"\0" not in self._rest:
            if not (some := os.read(self._in, 1 << 20)):
                raise RuntimeError("the browser has gone")
            self._rest += some
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)

    def open(self, address: str) -> None:
        """Load a page and wait until it is there; nothing on it moves or fades from then on."""
        self.call("Page.navigate", url=address)
        self.run("new Promise(done => document.readyState == 'complete' ? done() : addEventListener('load', done))")
        self.run("""document.head.append(document.createElement("style"));
                    document.head.lastChild.textContent = "* { transition: none !important }" """)

    def resize(self, width: int, height: int = 1000) -> None:
        """Give the window this size, in pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def run(self, script: str):
        """What an expression of JavaScript comes to, waited for, as plain data."""
        answer = self.call("Runtime.evaluate", expression=script)
        held, plain = answer["result"].get("objectId"), {"returnByValue": True}
        if answer["result"].get("subtype") == "promise":  # which is not collected while we hold it
            answer = self.call("Runtime.awaitPromise", promiseObjectId=held, **plain)
        elif held and "exceptionDetails" not in answer:
            itself = "function() { return this }"
            answer = self.call("Runtime.callFunctionOn", functionDeclaration=itself, objectId=held, **plain)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")
