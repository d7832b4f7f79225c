"""JSON values, and the YAML files that people edit.

Use the functions on JSON values as ``documents.merge``, ``documents.find`` and so on. None of them changes its
arguments; a result may share structure with them. ``json_patch`` and the YAML modules, which load libraries, are
imported by name.
"""

from aliciacfg.documents.changes import Bump, Change, changes
from aliciacfg.documents.json_syntax import explain_file
from aliciacfg.documents.limits import MAX_INTEGER, MIN_INTEGER, DocumentLimits, excess_nodes, shape_problems
from aliciacfg.documents.merge_patch import difference, merge, without
from aliciacfg.documents.pointers import (
    escape,
    find,
    format_pointer,
    has,
    leaves,
    parse_pointer,
    pointers_of,
    replace_strings,
    walk_strings,
)
from aliciacfg.documents.values import (
    MAX_DEPTH,
    Json,
    JsonObject,
    canonical,
    decode,
    decode_object,
    encode,
    equal,
    may_hold,
    normalise,
    repacked,
    type_name,
)

__all__ = [
    "MAX_DEPTH",
    "MAX_INTEGER",
    "MIN_INTEGER",
    "Bump",
    "Change",
    "DocumentLimits",
    "Json",
    "JsonObject",
    "canonical",
    "changes",
    "decode",
    "decode_object",
    "difference",
    "encode",
    "equal",
    "escape",
    "excess_nodes",
    "explain_file",
    "find",
    "format_pointer",
    "has",
    "leaves",
    "may_hold",
    "merge",
    "normalise",
    "parse_pointer",
    "pointers_of",
    "repacked",
    "replace_strings",
    "shape_problems",
    "type_name",
    "walk_strings",
    "without",
]
