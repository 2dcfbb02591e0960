"""What someone who works in Odoo feels: gaps in its answers, and how long an answer takes.

Measured from outside, through the published port, by requests that a browser or an integration makes.
It must stay modest: ten questions a second at most, so that the question does not become the load.
"""

import http.client
import json
import threading
import time
import urllib.parse


class Gap:
    """Asks /web/login every 100 ms; `seconds` is the longest time between two good answers.

    A good answer is a 200. Used as `with Gap(url) as gap:`; the instance must answer at both ends.
    """

    EVERY = 0.1

    def __init__(self, url):
        self.host = urllib.parse.urlsplit(url).netloc
        self.good, self.bad = [], 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.poll, daemon=True)

    def ask(self):
        connection = http.client.HTTPConnection(self.host, timeout=30)
        try:
            connection.request("GET", "/web/login")
            answer = connection.getresponse()
            answer.read()
            return answer.status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def poll(self):
        while not self.ended.is_set():
            began = time.monotonic()
            if self.ask():
                self.good.append(time.monotonic())
            else:
                self.bad += 1
            self.ended.wait(max(0.0, began + self.EVERY - time.monotonic()))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        # One more good answer closes the last gap.
        count, deadline = len(self.good), time.monotonic() + 60
        while len(self.good) == count and time.monotonic() < deadline:
            time.sleep(self.EVERY)
        self.ended.set()
        self.thread.join(40)

    @property
    def seconds(self):
        pairs = list(zip(self.good, self.good[1:]))
        return max(after - before for before, after in pairs) if pairs else float("inf")


def p95(values):
    """The value that 95 of 100 do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))] if ordered else float("nan")


class Work:
    """Asks for /web/login and writes one record, each `RATE` times a second, until it ends.

    An answer's time counts from when its question was due, so that a slow one makes those behind it slow
    too, as it does for people who wait. Failures are counted, and count as the time-out.
    `times` has, per kind of question, when each was due (time.monotonic) and how long it took.
    """

    RATE = 4
    TIMEOUT = 30

    def __init__(self, url, database, password="admin"):
        self.host = urllib.parse.urlsplit(url).netloc
        self.database, self.password = database, password
        self.times = {}
        self.ended = threading.Event()
        self.user = self.call("common", "login", database, "admin", password)
        if not self.user:
            raise RuntimeError(f"admin cannot log in to {database} at {url}")
        partner = self.execute("res.partner", "search", [["id", ">", 0]], 0, 1)
        self.partner = partner[0]
        self.write()

    def call(self, service, method, *arguments):
        connection = http.client.HTTPConnection(self.host, timeout=self.TIMEOUT)
        try:
            question = {"jsonrpc": "2.0", "method": "call", "id": 1,
                        "params": {"service": service, "method": method, "args": arguments}}
            connection.request("POST", "/jsonrpc", json.dumps(question), {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in answer:
            raise RuntimeError(answer["error"]["data"]["message"])
        return answer["result"]

    def execute(self, model, method, *arguments):
        return self.call("object", "execute_kw", self.database, self.user, self.password, model, method, list(arguments))

    def write(self):
        self.execute("res.partner", "write", [self.partner], {"comment": f"written at {time.time()}"})

    def login(self):
        connection = http.client.HTTPConnection(self.host, timeout=self.TIMEOUT)
        try:
            connection.request("GET", "/web/login")
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"/web/login answers {answer.status}")
        finally:
            connection.close()

    def repeat(self, name, action, offset):
        due = time.monotonic() + offset
        while not self.ended.wait(max(0.0, due - time.monotonic())):
            try:
                action()
                self.times[name].append((due, time.monotonic() - due))
            except (OSError, http.client.HTTPException, RuntimeError, ValueError):
                self.times[name].append((due, float(self.TIMEOUT)))
            due += 1 / self.RATE

    def __enter__(self):
        self.ended.clear()
        self.times = {"login": [], "write": []}
        self.threads = [threading.Thread(target=self.repeat, args=each, daemon=True)
                        for each in (("login", self.login, 0), ("write", self.write, 0.5 / self.RATE))]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join(self.TIMEOUT + 5)

    def result(self, since=float("-inf"), until=float("inf")):
        """Milliseconds of what was due in that time, and how many answers and failures they come from."""
        chosen = {name: [took for due, took in times if since <= due < until] for name, times in self.times.items()}
        every = [took for times in chosen.values() for took in times]
        return {name: round(1000 * p95(times), 1) for name, times in chosen.items()} | {
            "answers": len(every), "failed": sum(took >= self.TIMEOUT for took in every)}
