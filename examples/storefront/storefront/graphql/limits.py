"""What a query may ask for: a bound for its depth, one for its aliases, its values, its walks over the catalogue.

Strawberry has limits of depth and aliases. They follow a fragment to each place that spreads it, so where each of a
chain of fragments spreads the next one twice, every line of the query doubles the time. Here each fragment is measured
once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    IntValueNode,
    ListValueNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
)
from graphql.language import DocumentNode, InlineFragmentNode
from strawberry.extensions import SchemaExtension

from storefront.graphql.schemas import MOST_IDS

MOST_TOKENS, MOST_DEPTH, MOST_ALIASES, MOST_VALUES = 1_000, 5, 10, 2_000

MOST_SCANS = 4
"""A query counts as one search, and each of these fields is one over REST: a tenth of a second, whatever it selects."""

SCANS = frozenset({"products", "facets"})

LONGEST_PAGE = 100
FACETS = 40
"""About as many rows as one count of facets comes to."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large something is."""

    depth: int = 0
    aliases: int = 0
    values: int = 0
    scans: int = 0

    def __add__(self, beside: "Size") -> "Size":
        """Measure two things that stand beside each other."""
        return Size(
            max(self.depth, beside.depth),
            self.aliases + beside.aliases,
            self.values + beside.values,
            self.scans + beside.scans,
        )


class Limited(SchemaExtension):
    """Refuses what is too large, before it is validated: that takes time, too."""

    def on_operation(self) -> Iterator[None]:
        """Bound what is parsed."""
        self.execution_context.parse_options["max_tokens"] = MOST_TOKENS
        yield

    def on_validate(self) -> Iterator[None]:
        """Bound what is executed."""
        document = self.execution_context.graphql_document
        wrong = [] if document is None else too_large(document, self.execution_context.variables or {})
        self.execution_context.pre_execution_errors = wrong or None
        yield


def too_large(document: DocumentNode, variables: Mapping[str, Any]) -> list[GraphQLError]:
    """Say what is too large about the operations of a document; it may be invalid."""
    sizes = [_Measure(document, operation, variables).size() for operation in _operations(document)]
    found = sum(sizes, Size())
    return [
        GraphQLError(f"{count:,} {what}: at most {most:,}")
        for what, count, most in (
            ("levels deep", found.depth, MOST_DEPTH),
            ("aliases", found.aliases, MOST_ALIASES),
            ("values", found.values, MOST_VALUES),
            ("walks over the catalogue", found.scans, MOST_SCANS),
        )
        if count > most
    ]


class _Measure:
    """Measures one operation, each of its fragments once."""

    def __init__(
        self, document: DocumentNode, operation: OperationDefinitionNode, variables: Mapping[str, Any]
    ) -> None:
        self._operation = operation
        fragments = [each for each in document.definitions if isinstance(each, FragmentDefinitionNode)]
        self._fragments = {each.name.value: each for each in fragments}
        self._measured: dict[str, Size] = {}
        defaults = {each.variable.name.value: each.default_value for each in operation.variable_definitions or ()}
        self._defaults = {name: value for name, value in defaults.items() if value is not None}
        self._variables = variables

    def size(self) -> Size:
        return self._of(self._operation.selection_set)

    def _of(self, selected: SelectionSetNode | None) -> Size:
        return sum((self._of_one(each) for each in selected.selections), Size()) if selected else Size()

    def _of_one(self, selection: SelectionNode) -> Size:
        match selection:
            case FieldNode():
                return self._of_field(selection)
            case InlineFragmentNode():
                return self._of(selection.selection_set)
            case FragmentSpreadNode():
                return self._of_fragment(selection.name.value)
            case _:
                return Size()

    def _of_fragment(self, name: str) -> Size:
        if name not in self._measured:
            self._measured[name] = Size()  # one that spreads itself is not valid, which is found later
            fragment = self._fragments.get(name)
            self._measured[name] = self._of(fragment.selection_set) if fragment else Size()
        return self._measured[name]

    def _of_field(self, field: FieldNode) -> Size:
        if field.name.value.startswith("__"):
            return Size()  # of the schema itself: graphql-core bounds it, and in production there is none
        inner = self._of(field.selection_set)
        return Size(
            inner.depth + 1,
            inner.aliases + (field.alias is not None),
            1 + inner.values * self._times(field),
            inner.scans + (field.name.value in SCANS),
        )

    def _times(self, field: FieldNode) -> int:
        given = {each.name.value: each.value for each in field.arguments or ()}
        match field.name.value:
            case "products":
                first = self._value(given["first"]) if "first" in given else 20
                return min(first, LONGEST_PAGE) if isinstance(first, int) and first >= 0 else LONGEST_PAGE
            case "productsById":
                ids = self._value(given["ids"]) if "ids" in given else None
                return min(len(cast("list[object]", ids)), MOST_IDS) if isinstance(ids, list) else 1
            case "facets":
                return FACETS
            case _:
                return 1

    def _value(self, node: ValueNode) -> object:
        match node:
            case VariableNode():
                name = node.name.value
                if name in self._variables:
                    return self._variables[name]
                return self._value(self._defaults[name]) if name in self._defaults else None
            case IntValueNode():
                return int(node.value[:9])  # nobody counts further
            case ListValueNode():
                return list(node.values)
            case _:
                return None


def _operations(document: DocumentNode) -> list[OperationDefinitionNode]:
    return [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
