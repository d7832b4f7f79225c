"""JSON values, and the YAML files that people edit.

Use the functions on JSON values as ``documents.merge``, ``documents.find`` and so on. None of them changes its
arguments; a result may share structure with them. The YAML modules are imported by name.
"""

from aliciacfg.documents.changes import Bump, Change, changes
from aliciacfg.documents.json_patch import apply_json_patch, json_patch, json_patch_problem, operation_problem
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
    "apply_json_patch",
    "canonical",
    "changes",
    "decode",
    "decode_object",
    "difference",
    "encode",
    "equal",
    "escape",
    "excess_nodes",
    "find",
    "format_pointer",
    "has",
    "json_patch",
    "json_patch_problem",
    "leaves",
    "may_hold",
    "merge",
    "normalise",
    "operation_problem",
    "parse_pointer",
    "pointers_of",
    "repacked",
    "replace_strings",
    "shape_problems",
    "type_name",
    "walk_strings",
    "without",
]
