"""What the host of a subgraph, the one node that stands for it, gives to the nodes within.

A host shows widgets of theirs and holds the values. In newer files what it shows is an input of the subgraph, and the
value goes to all that this input feeds. Files from before the middle of 2026 name a node within and its widget
(`proxyWidgets`). Either may lead into a subgraph further within: values go down one storey at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from kolors_lab.sampling.ksampler import CONTROLS

CONTROL_NAMES = ("control_after_generate", "control_before_generate")  # widgets that only the editor has a use for


class Proxy(NamedTuple):
    """A widget that a host shows, as older files say it: of the node `owner` within (-1: an input of the subgraph
    itself), which may be a host too and show that of its own node `deep`."""

    owner: str
    widget: str
    deep: str


_Places = list[tuple[str, str | Proxy]]  # nodes within, by id, and their widgets


class _Fed(NamedTuple):
    """What an input of a subgraph feeds: the input `slot` of the node `owner` within, which is of the type `kind`."""

    owner: str
    slot: dict
    kind: str


class Hosts:
    """All hosts of a file. `definitions`: its subgraphs, by the type that their hosts have."""

    def __init__(self, definitions: dict[str, dict]):
        self.definitions = definitions
        self._fed_by_kind: dict[str, dict[str, list[_Fed]]] = {}
        self._promoted_by_kind: dict[str, list[str]] = {}

    def values_within(
        self, host: dict, nodes: dict[str, dict], above: dict[str | Proxy, Any]
    ) -> tuple[dict[str, dict[str | Proxy, Any]], list]:
        """The values of a host by node within and widget there, and those that stand for nothing within.

        `nodes`: those within, by id. `above`: what this host is given from further out, which wins over its own.
        What a host within is given here is `above` in its turn; that is why a Proxy may stand for a widget.
        """
        proxies = _proxies(host)
        values = _own_values(host, proxies or self._promoted(host["type"]))
        values |= (host.get("widgets_values_named") or {}) | above
        found: dict[str, dict[str | Proxy, Any]] = {}
        unused = []
        for name, value in values.items():
            if value is None:
                continue
            places = self._places(host["type"], nodes, proxies, name)
            if places is None:
                unused.append(value)
            for owner, widget in places or ():
                found.setdefault(owner, {})[widget] = value
        return found, unused

    def _places(self, kind: str, nodes: dict[str, dict], proxies: list[Proxy], name: Any) -> _Places | None:
        """Where a value goes. `name`: a proxy, or the name of an input or of a proxy's widget. An empty list: only the
        editor has a use for it. None: it stands for nothing within."""
        if isinstance(name, Proxy):
            return self._behind_proxy(kind, nodes, name)
        places = self._behind_input(kind, name)
        if places is None and (proxy := next((proxy for proxy in proxies if proxy.widget == name), None)):
            places = self._behind_proxy(kind, nodes, proxy)
        return places

    def _behind_proxy(self, kind: str, nodes: dict[str, dict], proxy: Proxy) -> _Places | None:
        if proxy.owner not in nodes:
            return self._behind_input(kind, proxy.widget)
        if proxy.widget in CONTROL_NAMES or proxy.widget.startswith("$$"):  # a preview
            return []
        if proxy.deep and nodes[proxy.owner]["type"] in self.definitions:
            return [(proxy.owner, Proxy(proxy.deep, proxy.widget, ""))]
        return [(proxy.owner, proxy.widget)]

    def _behind_input(self, kind: str, name: Any) -> _Places | None:
        if ends := self._fed(kind).get(name):
            return [(end.owner, self._widget(end)) for end in ends]
        return [] if name in CONTROL_NAMES else None

    def _widget(self, end: _Fed) -> str:
        """The widget that an input stands for; a host's input goes by its own name."""
        return end.slot["name"] if end.kind in self.definitions else (end.slot.get("widget") or end.slot)["name"]

    def _promoted(self, kind: str) -> list[str]:
        """The inputs of a subgraph that stand for widgets within, in order."""
        if kind not in self._promoted_by_kind:
            self._promoted_by_kind[kind] = []  # one that holds itself promotes nothing
            self._promoted_by_kind[kind] = [
                name
                for name, ends in self._fed(kind).items()
                if any(end.slot.get("widget") or end.slot["name"] in self._promoted(end.kind) for end in ends)
            ]
        return self._promoted_by_kind[kind]

    def _fed(self, kind: str) -> dict[str, list[_Fed]]:
        """What each input of a subgraph feeds; nothing where `kind` is no subgraph."""
        if kind not in self.definitions:
            return {}
        if kind not in self._fed_by_kind:
            data = self.definitions[kind]
            nodes = {str(node["id"]): node for node in data["nodes"]}
            links = {link["id"]: link for link in data.get("links") or ()}
            self._fed_by_kind[kind] = {
                put["name"]: list(_slots_fed(put, links, nodes)) for put in data.get("inputs") or ()
            }
        return self._fed_by_kind[kind]


def _proxies(host: dict) -> list[Proxy]:
    """What an older file's host shows, in the order of its values."""
    found = []
    for owner, widget, *deep in (host.get("properties") or {}).get("proxyWidgets") or ():
        if older := re.fullmatch(r"\s*(\d+)\s*:\s*(.+)", widget):  # `12: seed`
            deep, widget = [older[1]], older[2]
        found.append(Proxy(str(owner), widget, str(deep[0]) if deep else ""))
    return found


def _own_values(host: dict, shown: list[Proxy] | list[str]) -> dict[Any, Any]:
    """A host's values by what it shows, in order, those too many by their number; or by name where it has them so."""
    given = host.get("widgets_values") or []
    if isinstance(given, dict):
        return dict(given)
    if len(given) > len(shown):  # control words stand behind seeds that show none
        given = [value for value in given if value not in CONTROLS]
    return dict(zip(shown, given, strict=False)) | dict(enumerate(given[len(shown) :]))


def _slots_fed(put: dict, links: dict, nodes: dict[str, dict]) -> Iterator[_Fed]:
    """What one input of a subgraph feeds; links that lead nowhere are passed over."""
    for number in put.get("linkIds") or ():
        if link := links.get(number):
            owner = str(link["target_id"])
            slots = nodes.get(owner, {}).get("inputs") or []
            if 0 <= link["target_slot"] < len(slots):
                yield _Fed(owner, slots[link["target_slot"]], nodes[owner]["type"])
