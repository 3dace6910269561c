"""The app on a desktop of its own, and what a user does with it."""
import functools
import hashlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

from tray_host import Host

PROGRAM = os.environ["TESTS_APP"]
HOME = os.environ["HOME"]


@functools.cache
def host():
    """The one watcher of this session."""
    return Host()


def free_port():
    """A port that is free, and so is the next one."""
    for port in range(18400 + os.getpid() % 500 * 10, 65000, 7):
        try:
            for p in (port, port + 1):
                with socket.socket() as s:
                    s.bind(("127.0.0.1", p))
            return port
        except OSError:
            continue
    raise AssertionError("no free port")


class App:
    """One launch of the app. Use as a context manager: whatever happens, the process ends."""

    def __init__(self, port=None, introduced=True, env=None, timed=False):
        self.timed = timed
        self.port = port or free_port()
        self.data = os.environ["PERCH_DATA_DIR"]
        os.makedirs(self.data, exist_ok=True)
        if introduced:
            open(os.path.join(self.data, ".introduced"), "w").close()
        self.env = dict(os.environ, PERCH_PORT=str(self.port), **(env or {}))
        self.host = host()
        self.host.forget()
        self.log = open(os.path.join(HOME, "app.log"), "a")
        self.process = None

    def __enter__(self):
        self.window_manager = subprocess.Popen(["openbox"], stderr=subprocess.DEVNULL)
        self.begun = time.monotonic()
        self.process = subprocess.Popen([PROGRAM], stdout=self.log, stderr=self.log, env=self.env)
        self.up_after = self.until_up() if self.timed else None
        self.host.wait_item()
        return self

    def until_up(self):
        """Milliseconds from the launch to the first answer of `/health`."""
        while not self.is_up():
            assert time.monotonic() - self.begun < 30, "it never answers"
            time.sleep(0.002)
        return (time.monotonic() - self.begun) * 1000

    def __exit__(self, *failure):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.window_manager.kill()
        self.window_manager.wait()
        self.log.close()
        if failure[0]:
            with open(os.path.join(HOME, "app.log")) as log:
                print("--- the end of the app's log ---\n" + "".join(log.readlines()[-30:]))

    def url(self, port=None):
        return f"http://127.0.0.1:{port or self.port}"

    def get(self, path, port=None):
        """The status and the body; status 0 where nobody answers."""
        try:
            with urllib.request.urlopen(self.url(port) + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def is_up(self, port=None):
        return self.get("/health", port)[0] == 200

    def post(self, path, body):
        data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url() + path, data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()

    def icon(self):
        """What the icon looks like, as a number."""
        path = str(self.host.prop("IconName"))
        with open(path, "rb") as image:
            return hashlib.sha256(image.read()).hexdigest()[:12]

    def ready(self):
        self.host.until(lambda: self.is_up() and self.host.find("Ready at"), 60, "the server is ready")
        return self

    def windows(self):
        # Windows that are not shown have the name of the program.
        found = subprocess.run(["xdotool", "search", "--onlyvisible", "--name", "^Perch$"], capture_output=True, text=True)
        return found.stdout.split()

    def children(self):
        """Every process that came from the app and lives."""
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/stat") as stat:
                        fields = stat.read().rsplit(")", 1)[1].split()
                except OSError:
                    continue
                parents.setdefault(int(fields[1]), []).append(int(entry))
        found = [self.process.pid]
        for pid in found:
            found += parents.get(pid, [])
        return found[1:]

    def memory(self):
        """Bytes of the app's own process: all that is mapped in, and what it alone has and the system cannot drop."""
        with open(f"/proc/{self.process.pid}/smaps_rollup") as rollup:
            sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in rollup if line.endswith("kB\n")}
        return sizes["Rss"], sizes["Private_Dirty"]

    def processor(self):
        """Seconds of processor time that the app has taken."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ends(self, seconds=10):
        """Waits for the app to end by itself, and returns its exit code."""
        end = time.time() + seconds
        while self.process.poll() is None:
            assert time.time() < end, f"the app still runs after {seconds} s"
            self.host.pump(0.05)
        return self.process.returncode

    def term(self):
        self.process.send_signal(signal.SIGTERM)


def aside(work):
    """Runs something on a thread; returns a function that waits for its result."""
    result = {}

    def run():
        try:
            result["value"] = work()
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            result["error"] = error

    thread = threading.Thread(target=run)
    thread.start()

    def wait(host=None):
        while thread.is_alive():
            host.pump(0.02) if host else thread.join()
        if "error" in result:
            raise result["error"]
        return result.get("value")

    return wait
