"""The other side of a tray: a StatusNotifier watcher and host, and a client of the menu that the icon offers.

What a panel does over D-Bus, without a panel: `Host().wait_item()`, then `labels()`, `find()`, `click()`, `prop()`.
"""
import time

import dbus
import dbus.service
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

DBusGMainLoop(set_as_default=True)
WATCHER, WATCHER_PATH = "org.kde.StatusNotifierWatcher", "/StatusNotifierWatcher"
ITEM, MENU = "org.kde.StatusNotifierItem", "com.canonical.dbusmenu"


class Watcher(dbus.service.Object):
    """Where icons announce themselves."""

    def __init__(self, bus):
        self.name = dbus.service.BusName(WATCHER, bus, do_not_queue=True)
        self.items = []
        super().__init__(bus, WATCHER_PATH)

    @dbus.service.method(WATCHER, in_signature="s", sender_keyword="sender")
    def RegisterStatusNotifierItem(self, service, sender=None):
        item = (sender, service) if service.startswith("/") else (service, "/StatusNotifierItem")
        self.items.append(item)
        self.StatusNotifierItemRegistered("".join(item))

    @dbus.service.method(WATCHER, in_signature="s")
    def RegisterStatusNotifierHost(self, service):
        self.StatusNotifierHostRegistered()

    @dbus.service.signal(WATCHER, "s")
    def StatusNotifierItemRegistered(self, item):
        pass

    @dbus.service.signal(WATCHER, "")
    def StatusNotifierHostRegistered(self):
        pass

    @dbus.service.method(dbus.PROPERTIES_IFACE, in_signature="ss", out_signature="v")
    def Get(self, interface, name):
        return self.GetAll(interface)[name]

    @dbus.service.method(dbus.PROPERTIES_IFACE, in_signature="s", out_signature="a{sv}")
    def GetAll(self, interface):
        return {
            "IsStatusNotifierHostRegistered": dbus.Boolean(True),
            "ProtocolVersion": dbus.Int32(0),
            "RegisteredStatusNotifierItems": dbus.Array(["".join(item) for item in self.items], signature="s"),
        }


class Host:
    """Sees and clicks what a panel would."""

    def __init__(self):
        self.bus = dbus.SessionBus()
        self.watcher = Watcher(self.bus)
        self.context = GLib.MainContext.default()
        self.item = self.menu_path = None

    def pump(self, seconds=0.0):
        """Answers D-Bus for so long. The app waits for us when it announces its icon."""
        end = time.time() + seconds
        while True:
            while self.context.iteration(False):
                pass
            if time.time() >= end:
                return
            time.sleep(0.01)

    def until(self, what, seconds=20, saying=""):
        """Waits until `what()` is true, and returns it."""
        end = time.time() + seconds
        while time.time() < end:
            self.pump(0.03)
            try:
                value = what()
            except dbus.DBusException:
                value = None
            if value:
                return value
        raise AssertionError(f"not within {seconds} s: {saying or what}; the menu: {self.labels()}")

    def forget(self):
        """Makes place for the next icon."""
        self.watcher.items.clear()
        self.item = None

    def wait_item(self, seconds=60):
        end = time.time() + seconds
        while not self.watcher.items:
            assert time.time() < end, "no icon came into the tray"
            self.pump(0.03)
        self.item = self.watcher.items[-1]
        self.menu_path = str(self.prop("Menu"))

    def prop(self, name):
        return self._call(self.item, dbus.PROPERTIES_IFACE, "Get", ITEM, name)

    def menu(self):
        """All items, those of menus within the menu with a depth above 0."""
        place = (self.item[0], self.menu_path)
        self._call(place, MENU, "AboutToShow", dbus.Int32(0))
        arguments = (dbus.Int32(0), dbus.Int32(-1), dbus.Array([], signature="s"))
        _, root = self._call(place, MENU, "GetLayout", *arguments)
        items = []

        def walk(node, depth):
            number, properties, children = node
            if int(number):
                # A doubled underscore is one; a single one marks a mnemonic.
                label = str(properties.get("label", "")).replace("__", "\0").replace("_", "").replace("\0", "_")
                items.append({
                    "id": int(number),
                    "label": label,
                    "separator": str(properties.get("type", "")) == "separator",
                    "enabled": bool(properties.get("enabled", True)),
                    "checkable": str(properties.get("toggle-type", "")) == "checkmark",
                    "checked": int(properties.get("toggle-state", -1)) == 1,
                    "depth": depth,
                })
            for child in children:
                walk(child, depth + 1)

        walk(root, -1)
        return items

    def labels(self):
        if not self.item:
            return []
        return [item["label"] for item in self.menu() if not item["separator"]]

    def find(self, label):
        """The item that begins so."""
        return next((item for item in self.menu() if item["label"].startswith(label)), None)

    def click(self, label):
        item = self.find(label)
        assert item, f"there is no {label!r} in {self.labels()}"
        assert item["enabled"], f"{label!r} cannot be clicked"
        place, nothing = (self.item[0], self.menu_path), dbus.String("", variant_level=1)
        self._call(place, MENU, "Event", dbus.Int32(item["id"]), "clicked", nothing, dbus.UInt32(0))

    def _call(self, place, interface, method, *arguments):
        answer = {}
        proxy = dbus.Interface(self.bus.get_object(*place, introspect=False), interface)
        proxy.get_dbus_method(method)(
            *arguments,
            reply_handler=lambda *values: answer.update(value=values[0] if len(values) == 1 else values),
            error_handler=lambda error: answer.update(error=error),
            timeout=10,
        )
        end = time.time() + 11
        while not answer and time.time() < end:
            self.pump(0.01)
        if "error" in answer:
            raise answer["error"]
        return answer.get("value")
