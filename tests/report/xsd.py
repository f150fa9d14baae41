"""As much of XML Schema as junit.xsd uses: elements by reference, sequences, choices, attributes with simple types."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

XS = "{http://www.w3.org/2001/XMLSchema}"
TYPES = {
    "xs:string": re.compile(r".*", re.DOTALL),
    "xs:decimal": re.compile(r"[+-]?(\d+\.?\d*|\.\d+)"),
    "xs:nonNegativeInteger": re.compile(r"\+?\d+"),
}


def faults(xml: str, schema: Path) -> list[str]:
    """Everything in a document that its schema does not allow."""
    declared = {each.attrib["name"]: each for each in ET.parse(schema).getroot().findall(f"{XS}element")}
    root = ET.fromstring(xml)
    found = [] if root.tag in declared else [f"<{root.tag}> is not declared"]
    return found + (_element(root, declared) if root.tag in declared else [])


def _element(node: ET.Element, declared: dict[str, ET.Element]) -> list[str]:
    kind = declared[node.tag].find(f"{XS}complexType")
    if kind is None:
        return [f"<{node.tag}> has children or attributes"] if len(node) or node.attrib else []
    found = _attributes(node, kind)
    model = kind.find(f"{XS}sequence")
    pattern = _pattern(model) if model is not None else ""
    if not re.fullmatch(pattern, "".join(f"<{child.tag}>" for child in node)):
        found.append(f"<{node.tag}> may not hold {[child.tag for child in node]}")
    texts = [node.text, *(child.tail for child in node)]
    if kind.get("mixed") != "true" and any(text and text.strip() for text in texts):
        found.append(f"<{node.tag}> may hold no text")
    return found + [fault for child in node if child.tag in declared for fault in _element(child, declared)]


def _attributes(node: ET.Element, kind: ET.Element) -> list[str]:
    known = {each.attrib["name"]: each for each in kind.findall(f"{XS}attribute")}
    found = [f"<{node.tag}> has no attribute {name}" for name in node.attrib if name not in known]
    for name, each in known.items():
        if name not in node.attrib:
            found += [f"<{node.tag}> lacks {name}"] if each.get("use") == "required" else []
        elif not TYPES[each.attrib["type"]].fullmatch(node.attrib[name]):
            found.append(f"<{node.tag} {name}={node.attrib[name]!r}> is no {each.attrib['type']}")
    return found


def _pattern(model: ET.Element) -> str:
    """A content model as a regular expression over the tags of the children."""
    if model.tag == f"{XS}element":
        inner = re.escape(f"<{model.attrib['ref']}>")
    else:
        joint = "|" if model.tag == f"{XS}choice" else ""
        inner = joint.join(_pattern(part) for part in model)
    least, most = model.get("minOccurs", "1"), model.get("maxOccurs", "1")
    return f"(?:{inner}){{{least},{'' if most == 'unbounded' else most}}}"
