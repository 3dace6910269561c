"""What users do with the app, each in a launch of its own: `scenarios.py NAME` runs one and fails with a reason."""
import json
import os
import socket
import subprocess
import sys
import time

from app import HOME, PROGRAM, App, aside, free_port

MODEL = "tiny"


def start_and_stop():
    with App() as app:
        app.ready()
        host, idle = app.host, app.icon()
        assert host.find("Ready at 127.0.0.1:%d" % app.port), host.labels()
        assert not host.find("Ready")["enabled"], "the first line is to read"
        assert not host.find("Start Server"), "only what can be done now is offered"
        host.click("Stop Server")
        host.until(lambda: host.find("Perch is stopped"), saying="it stops")
        assert app.get("/health")[0] == 0, "the port is closed"
        assert not host.find("Models") and not host.find("Copy Base URL"), host.labels()
        stopped = app.icon()
        begun = time.time()
        host.click("Start Server")
        host.until(app.is_up, saying="it starts")
        print(f"from the click to the first answer: {(time.time() - begun) * 1000:.0f} ms")
        host.until(lambda: host.find("Ready at"), saying="the menu says so")
        assert idle != stopped and app.icon() == idle, "each state has an icon of its own"


def running_answers_are_finished():
    with App() as app:
        app.ready()
        host, idle = app.host, app.icon()
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 6000,
                "stream": True, "temperature": 0}
        answer = aside(lambda: app.post("/v1/chat/completions", body))
        host.until(lambda: host.find("Answering at"), saying="it answers")
        assert app.icon() != idle, "the icon shows it"
        host.until(lambda: str(host.prop("XAyatanaLabel")).endswith("t/s"), saying="tokens a second beside the icon")
        host.click("Stop Server")
        host.until(lambda: host.find("Perch is stopping"), saying="it is stopping")
        assert not host.find("Stop Server") and not host.find("Start Server"), "nothing to click twice"
        text = answer(host)
        assert "data: " in text and ("[DONE]" in text or "error" in text), text[-300:]
        host.until(lambda: host.find("Perch is stopped"), 10, "it stops")
        host.until(lambda: str(host.prop("XAyatanaLabel")) == "", saying="no speed beside the icon")


def taken_port():
    with socket.socket() as holder:
        port = free_port()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", port))
        holder.listen()
        with App(port=port) as app:
            host = app.host
            host.until(lambda: host.find("Perch could not start"), saying="the port is taken")
            reason = host.find(f"Port {port} is taken by")["label"]
            assert f"process {os.getpid()}" in reason, reason
            error = app.icon()
            host.click(f"Use Port {port + 1} Instead")
            host.until(lambda: app.is_up(port + 1), saying="it runs on the other port")
            host.until(lambda: host.find(f"Ready at 127.0.0.1:{port + 1}"), saying="the menu says so")
            assert app.icon() != error
            assert not host.find("Port "), host.labels()


def freed_port():
    with socket.socket() as holder:
        port = free_port()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", port))
        holder.listen()
        with App(port=port) as app:
            app.host.until(lambda: app.host.find("Restart Server"), saying="the port is taken")
            holder.close()
            app.host.click("Restart Server")
            app.ready()


def broken_model():
    """The default model is damaged: an error with its reason, until the file is whole again and the server restarted."""
    folder = os.path.join(os.environ["PERCH_DATA_DIR"], "models")
    [file] = [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".gguf")]
    with open(file, "rb") as whole:
        content = whole.read()
    broken = os.path.join(folder, "broken.gguf")
    with open(broken, "wb") as damaged:
        damaged.write(content[: len(content) // 2])
    with App(env={"PERCH_MODEL": "broken"}) as app:
        host = app.host
        host.until(lambda: host.find("Restart Server"), 30, "the error has a way out")
        assert any("broken" in label for label in host.labels()), host.labels()
        assert app.get("/health")[0] == 503
        error = app.icon()
        with open(broken, "wb") as mended:
            mended.write(content)
        host.click("Restart Server")
        app.ready()
        assert app.icon() != error and not host.find("Restart Server"), host.labels()


def models():
    with App() as app:
        app.ready()
        host = app.host
        host.until(lambda: host.find(MODEL), saying="the model is listed")
        assert not host.find(MODEL)["checked"]
        host.click(MODEL)
        host.until(lambda: host.find(MODEL)["checked"], 60, "it is loaded and checked")
        host.click(f"Unload {MODEL}")
        host.until(lambda: not host.find(MODEL)["checked"], saying="it is unloaded")
        assert not host.find("Unload"), host.labels()


def performance():
    with App() as app:
        app.ready()
        host = app.host
        assert host.find("Balanced")["checked"]
        host.click("Efficiency")
        host.until(lambda: host.find("Efficiency") and host.find("Efficiency")["checked"], saying="it is checked")
        app.ready()
        assert not host.find("Balanced")["checked"]
        with open(os.path.join(app.data, "config.toml")) as config:
            assert 'performance = "efficiency"' in config.read()


def launch_at_login():
    entry = os.path.join(HOME, ".config/autostart/Perch.desktop")
    with App() as app:
        host = app.host
        item = host.find("Launch at Login")
        assert item["checkable"] and not item["checked"], item
        host.click("Launch at Login")
        host.until(lambda: host.find("Launch at Login")["checked"], saying="it is checked")
        with open(entry) as text:
            assert os.path.realpath(PROGRAM) in text.read()
        # As if the app had been moved since.
        with open(entry, "w") as text:
            text.write("[Desktop Entry]\nType=Application\nName=Perch\nExec=/old/place/perch-app\n")
        host.click("Quit Perch")
        assert app.ends() == 0
    with App() as app:
        host = app.host
        host.until(lambda: host.find("Launch at Login")["checked"], saying="it is still on")
        with open(entry) as text:
            assert os.path.realpath(PROGRAM) in text.read(), "the entry names the new place"
        host.click("Launch at Login")
        host.until(lambda: not host.find("Launch at Login")["checked"], saying="it is off")
        assert not os.path.exists(entry)


def second_instance():
    with App() as app:
        app.ready()
        assert not app.windows()
        second = aside(lambda: subprocess.run([PROGRAM], env=app.env, capture_output=True, timeout=30).returncode)
        assert second(app.host) == 0
        app.host.until(app.windows, 30, "the first one shows its window")


def window():
    with App(introduced=False) as app:
        host = app.host
        shown = host.until(app.windows, 60, "the first start shows the dashboard")
        host.until(lambda: len(app.children()) > 0, saying="the web view has processes")
        subprocess.run(["xdotool", "windowsize", "--sync", shown[-1], "900", "700"], check=True)
        host.pump(0.5)
        subprocess.run(["wmctrl", "-i", "-c", shown[-1]], check=True)
        host.until(lambda: not app.windows(), saying="the window closes")
        app.ready()
        host.click("Open Dashboard")
        again = host.until(app.windows, 30, "it opens again")
        host.pump(1)
        size = subprocess.run(["xdotool", "getwindowgeometry", again[-1]], capture_output=True, text=True).stdout
        assert "900x700" in size, f"the size is remembered: {size}"
        with open(os.path.join(app.data, ".introduced")) as port:
            remembered = port.read()
        children = app.children()
        host.click("Quit Perch")
        assert app.ends() == 0
        host.until(lambda: not [pid for pid in children if os.path.exists(f"/proc/{pid}/exe")], 10, "nothing is left")
    with App(introduced=False) as app:
        app.ready()
        host.pump(1)
        assert not app.windows(), "the dashboard introduces itself once"
        with open(os.path.join(app.data, ".introduced")) as port:
            assert port.read() == remembered, "the page finds what it remembers at the same port"


def terminated():
    with App() as app:
        app.ready()
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 300, "temperature": 0}
        answer = aside(lambda: app.post("/v1/chat/completions", dict(body, stream=True)))
        app.host.until(lambda: json.loads(app.get("/api/status")[1])["requests"]["active"] > 0
                       or json.loads(app.get("/api/status")[1])["requests"]["completed"] > 0, saying="it answers")
        app.term()
        assert "[DONE]" in answer(app.host)
        assert app.ends(10) == 0


def dashboard():
    """The real web view, driven by WebKit's own driver: the page, and the server switched from within it."""
    import urllib.request

    driver_port = free_port()
    locale = {"LANG": "C", "LC_ALL": "C"}
    app = App(port=driver_port + 1, introduced=False, env={"TAURI_WEBVIEW_AUTOMATION": "true", **locale})
    driver = subprocess.Popen(["WebKitWebDriver", f"--port={driver_port}"], env=app.env,
                              stdout=app.log, stderr=app.log)
    manager = subprocess.Popen(["openbox"], stderr=subprocess.DEVNULL)
    host = app.host

    def ask(method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{driver_port}{path}"
        request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def script(text):
        body = {"script": text, "args": []}
        return aside(lambda: ask("POST", f"/session/{session}/execute/sync", body))(host)

    try:
        host.pump(1)
        wanted = {"capabilities": {"alwaysMatch": {"webkitgtk:browserOptions": {"binary": PROGRAM, "args": []}}}}
        session = aside(lambda: ask("POST", "/session", wanted))(host)["sessionId"]
        host.wait_item()
        host.until(lambda: script("return document.readyState") == "complete", 30, "the page is there")
        shown = "return document.getElementById('app').childElementCount"
        host.until(lambda: script(shown), saying="the dashboard is shown, whatever the locale")
        where = script("return location.href")
        assert "token" not in where, "the token is gone from the address"
        assert script("return document.cookie") == "", "no script sees the cookie"
        call = ("const [method, path] = %s; return await (await fetch(path, {method, headers: "
                "{'Content-Type': 'application/json'}})).json()")
        fetch = lambda method, path: script(call % json.dumps([method, path]))
        host.until(lambda: fetch("GET", "/api/server")["phase"] == "running", saying="it runs")
        assert fetch("GET", "/v1/models")["data"], "the page reaches the server through its own address"
        # The settings page has the session's own entry, and the menu follows.
        entry = os.path.join(HOME, ".config/autostart/Perch.desktop")
        script("location.hash = '#/settings'")
        switch = "document.querySelector('[role=switch][aria-label=\"Launch at login\"]')"
        for on in (True, False):
            host.until(lambda: script(f"return {switch}?.disabled === false"), saying="the switch is there")
            script(f"{switch}.click()")
            state = "true" if on else "false"
            host.until(lambda: script(f"return {switch}.getAttribute('aria-checked')") == state, saying=f"it is {on}")
            assert os.path.exists(entry) is on
            host.until(lambda: bool(host.find("Launch at Login")["checked"]) is on, saying="the menu says so too")
        assert fetch("POST", "/api/server/stop")["phase"] == "stopped"
        host.until(lambda: host.find("Perch is stopped"), saying="the tray follows the page")
        assert fetch("GET", "/api/status")["state"] == "stopped"
        assert fetch("GET", "/v1/models")["error"]["code"] == "server_stopped"
        assert fetch("POST", "/api/server/start")["phase"] == "running"
        app.ready()
        if picture := os.environ.get("TESTS_PICTURE"):
            import base64
            with open(picture, "wb") as file:
                file.write(base64.b64decode(aside(lambda: ask("GET", f"/session/{session}/screenshot"))(host)))
        aside(lambda: ask("DELETE", f"/session/{session}"))(host)
    finally:
        driver.terminate()
        driver.wait()
        manager.kill()
        manager.wait()


def footprint():
    """What the app costs while nobody uses it. Nothing fails here: the figures are for docs/benchmarks.md."""
    times = []
    for _ in range(5):
        with App(timed=True) as app:
            times.append(app.up_after)
            app.term()
            app.ends()
    with App() as app:
        app.ready()
        app.host.pump(5)
        before, seconds = app.processor(), 60
        app.host.pump(seconds)
        resident, private = app.memory()
        mb = lambda size: f"{size / 1e6:.1f} MB"
        print(f"program: {mb(os.path.getsize(PROGRAM))}")
        print(f"from launch to /health: median {sorted(times)[2]:.0f} ms of {', '.join(f'{t:.0f}' for t in times)}")
        print(f"idle: {mb(resident)} resident, {mb(private)} private, {len(app.children())} other processes")
        print(f"processor over {seconds} s: {(app.processor() - before) / seconds * 100:.2f} % of a core")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    print("done")
