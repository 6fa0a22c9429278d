"""Records of a map expansion's layers, with the nodes, lines and polygons that they refer to."""

from __future__ import annotations

from typing import Any

from toolkit.synthetic.schema.records import Row, token
from toolkit.synthetic.world.geometry import Array
from toolkit.synthetic.world.town import Town

_LAYERS = (
    "polygon", "line", "node", "drivable_area", "road_segment", "road_block", "lane", "ped_crossing", "walkway",
    "stop_line", "carpark_area", "road_divider", "lane_divider", "traffic_light", "lane_connector",
)  # fmt: skip


class MapLayers:
    """Collects records by layer; what is at the same place shares a node. Geometry comes in the town frame."""

    def __init__(self, town: Town) -> None:
        self.records: dict[str, list[Row]] = {name: [] for name in _LAYERS}
        self._town = town
        self._known: set[str] = set()

    def add_area(self, layer: str, name: str, area: Array, **fields: Any) -> Row:
        """A record with the polygon `area` [n, 2]."""
        polygon = self.token("polygon", layer, name)
        self.records["polygon"].append({
            "token": polygon, "exterior_node_tokens": self.nodes(area), "holes": []
        })  # fmt: skip
        return self.add(layer, name, polygon_token=polygon, **fields)

    def line(self, name: str, points: Array) -> str:
        """A line's token; `points` is [n, 2]."""
        line = self.token("line", name)
        self.records["line"].append({"token": line, "node_tokens": self.nodes(points)})
        return line

    def nodes(self, points: Array) -> list[str]:
        """The tokens of nodes at `points` [n, 2]."""
        tokens = []
        for x, y in self._town.to_global(points).round(4).tolist():
            name = self.token("node", f"{x:.3f}", f"{y:.3f}")
            if name not in self._known:
                self._known.add(name)
                self.records["node"].append({"token": name, "x": x, "y": y})
            tokens.append(name)
        return tokens

    def add(self, layer: str, name: str, **fields: Any) -> Row:
        """A record of any layer."""
        record = {"token": self.token(layer, name), **fields}
        self.records[layer].append(record)
        return record

    def token(self, *parts: Any) -> str:
        """The token of a record, by its layer and name."""
        return token(self._town.seed, self._town.location.name, *parts)
