"""The operations table: one row per operation, the source of topics, routes, authorization and API documents.

A new operation needs a row here, its request and answer in ``api``, and a method that carries it out.
"""

from collections.abc import Mapping

from aliciacfg.api import requests
from aliciacfg.api.answers.administration import (
    AuditAnswer,
    BackupAnswer,
    KeysAnswer,
    PasswordsAnswer,
    RecipientAnswer,
    TokenAnswer,
    TokensAnswer,
    WhoamiAnswer,
)
from aliciacfg.api.answers.compare import CompareAnswer
from aliciacfg.api.answers.configurations import (
    BatchAnswer,
    ConfigAnswer,
    DeletedAnswer,
    HistoryAnswer,
    ListAnswer,
    SchemaAnswer,
    UnchangedAnswer,
    ValidateAnswer,
    WriteAnswer,
)
from aliciacfg.api.answers.environments import ActivateAnswer, EnvironmentsAnswer, ReloadAnswer
from aliciacfg.api.answers.explain import ExplainAnswer
from aliciacfg.api.answers.health import HealthAnswer, ReplicasAnswer
from aliciacfg.api.answers.monitoring import AlertsAnswer, DriftAnswer, InstancesAnswer
from aliciacfg.api.encoding import Answer, encode_success
from aliciacfg.api.requests import MAX_BATCH_BYTES
from aliciacfg.operations.admin import AdminOperations
from aliciacfg.operations.batch import BatchOperation
from aliciacfg.operations.environment_changes import EnvironmentOperations
from aliciacfg.operations.environment_reads import EnvironmentReads
from aliciacfg.operations.health import Health
from aliciacfg.operations.identity import Identity
from aliciacfg.operations.operation import Operation, on_all, on_target
from aliciacfg.operations.reads import ReadOperations
from aliciacfg.operations.service import ConfigService
from aliciacfg.operations.writes import WriteOperations


def _reads(service: ConfigService) -> ReadOperations:
    return service.reads


def _environment_reads(service: ConfigService) -> EnvironmentReads:
    return service.environment_reads


def _writes(service: ConfigService) -> WriteOperations:
    return service.writes


def _batches(service: ConfigService) -> BatchOperation:
    return service.batches


def _environments(service: ConfigService) -> EnvironmentOperations:
    return service.environments


def _admin(service: ConfigService) -> AdminOperations:
    return service.admin


def _identity(service: ConfigService) -> Identity:
    return service.identity


def _health(service: ConfigService) -> Health:
    return service.health


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        name="get",
        summary="Read one configuration",
        target="service",
        needs="read",
        handler=on_target(_reads, ReadOperations.get, requests.GetRequest),
        answer=ConfigAnswer | UnchangedAnswer,
        method="GET",
        path="/config/{target}",
        http_only=frozenset({"pointer", "format", "wait_seconds"}),
    ),
    Operation(
        name="set",
        summary="Replace one configuration",
        target="service",
        needs="write",
        handler=on_target(_writes, WriteOperations.set, requests.SetRequest),
        answer=WriteAnswer,
        method="PUT",
        path="/config/{target}",
        body="config",
        writes=True,
        creates=True,
    ),
    Operation(
        name="patch",
        summary="Apply a merge patch (RFC 7396)",
        target="service",
        needs="write",
        handler=on_target(_writes, WriteOperations.patch, requests.PatchRequest),
        answer=WriteAnswer,
        method="PATCH",
        path="/config/{target}",
        body="patch",
        writes=True,
        creates=True,
    ),
    Operation(
        name="unset",
        summary="Remove one run-time change",
        target="service",
        needs="write",
        handler=on_target(_writes, WriteOperations.unset, requests.UnsetRequest),
        answer=WriteAnswer,
        method="POST",
        path="/config/{target}/unset",
        body="fields",
        writes=True,
    ),
    Operation(
        name="delete",
        summary="Remove all run-time changes",
        target="service",
        needs="write",
        handler=on_target(_writes, WriteOperations.delete, requests.WriteRequest),
        answer=WriteAnswer | DeletedAnswer,
        method="DELETE",
        path="/config/{target}",
        writes=True,
    ),
    Operation(
        name="validate",
        summary="Check a configuration",
        target="service",
        needs="read",
        handler=on_target(_writes, WriteOperations.validate, requests.ValidateRequest),
        answer=ValidateAnswer,
        method="POST",
        path="/config/validate",
        body="fields",
    ),
    Operation(
        name="schema",
        summary="Read a service's JSON Schema",
        target="service",
        needs="read",
        handler=on_target(_reads, ReadOperations.schema, requests.Request),
        answer=SchemaAnswer,
        method="GET",
        path="/config/schema/{target}",
    ),
    Operation(
        name="list",
        summary="List the configurations",
        needs="read_any",
        handler=on_all(_reads, ReadOperations.list, requests.ListRequest),
        answer=ListAnswer,
        method="GET",
        path="/configs",
    ),
    Operation(
        name="batch",
        summary="Carry out several writes in one transaction",
        needs="write_any",
        handler=on_all(_batches, BatchOperation.batch, requests.BatchRequest),
        answer=BatchAnswer,
        method="POST",
        path="/configs/batch",
        body="fields",
        writes=True,
        items=("updates", requests.BatchUpdate),
        max_bytes=MAX_BATCH_BYTES,
    ),
    Operation(
        name="history",
        summary="List the revisions of one configuration",
        target="service",
        needs="read",
        handler=on_target(_reads, ReadOperations.history, requests.HistoryRequest),
        answer=HistoryAnswer,
        method="GET",
        path="/config/{target}/history",
    ),
    Operation(
        name="rollback",
        summary="Restore an old revision",
        target="service",
        needs="write",
        handler=on_target(_writes, WriteOperations.rollback, requests.RollbackRequest),
        answer=WriteAnswer,
        method="POST",
        path="/config/{target}/rollback",
        body="fields",
        writes=True,
        creates=True,
    ),
    Operation(
        name="explain",
        summary="Show the origin of each value",
        target="service",
        needs="read",
        handler=on_target(_environment_reads, EnvironmentReads.explain, requests.CurrentRequest),
        answer=ExplainAnswer,
        method="GET",
        path="/config/{target}/explain",
    ),
    Operation(
        name="compare",
        summary="Compare environments or revisions",
        target="service",
        needs="read",
        handler=on_target(_environment_reads, EnvironmentReads.compare, requests.CompareRequest),
        answer=CompareAnswer,
        method="GET",
        path="/config/compare/{target}",
    ),
    Operation(
        name="environments",
        summary="List the environments",
        needs="read",
        handler=on_all(_environment_reads, EnvironmentReads.environments, requests.Request),
        answer=EnvironmentsAnswer,
        method="GET",
        path="/environments",
    ),
    Operation(
        name="activate",
        summary="Activate an environment",
        target="environment",
        needs="admin",
        handler=on_target(_environments, EnvironmentOperations.activate, requests.ActivateRequest),
        answer=ActivateAnswer,
        method="POST",
        path="/environments/{target}/activate",
        body="fields",
        writes=True,
    ),
    Operation(
        name="reload",
        summary="Read the files again",
        needs="admin",
        handler=on_all(_environments, EnvironmentOperations.reload, requests.ReloadRequest),
        answer=ReloadAnswer,
        method="POST",
        path="/reload",
        body="fields",
        writes=True,
    ),
    Operation(
        name="instances",
        summary="List the running copies of a service",
        target="service",
        needs="read",
        handler=on_target(_reads, ReadOperations.instances, requests.CurrentRequest),
        answer=InstancesAnswer,
        method="GET",
        path="/config/{target}/instances",
    ),
    Operation(
        name="drift",
        summary="List the differences from the state in the store",
        needs="admin",
        handler=on_all(_reads, ReadOperations.drift, requests.Request),
        answer=DriftAnswer,
        method="GET",
        path="/drift",
    ),
    Operation(
        name="recipient",
        summary="Set the key that a service's secrets are sealed to",
        target="service",
        needs="own",
        handler=on_target(_admin, AdminOperations.recipient, requests.RecipientRequest),
        answer=RecipientAnswer,
        method="PUT",
        path="/config/{target}/recipient",
        body="fields",
        writes=True,
    ),
    Operation(
        name="audit",
        summary="List changes and refused requests",
        needs="admin",
        handler=on_all(_admin, AdminOperations.audit, requests.AuditRequest),
        answer=AuditAnswer,
        method="GET",
        path="/audit",
    ),
    Operation(
        name="health",
        summary="Read the health of the daemon",
        needs="nothing",
        handler=on_all(_health, Health.health, requests.Request),
        answer=HealthAnswer,
        method="GET",
        path="/health",
        own_status=True,
    ),
    Operation(
        name="replicas",
        summary="List the daemons that serve the home",
        needs="read_any",
        handler=on_all(_health, Health.replicas, requests.Request),
        answer=ReplicasAnswer,
        method="GET",
        path="/replicas",
    ),
)

HTTP_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        name="whoami",
        summary="Who the caller is, and what it may do",
        needs="nothing",
        handler=on_all(_identity, Identity.whoami, requests.Request),
        answer=WhoamiAnswer,
        method="GET",
        path="/whoami",
    ),
    Operation(
        name="alerts",
        summary="List the alerts that are not over",
        needs="admin",
        handler=on_all(_health, Health.alerts, requests.Request),
        answer=AlertsAnswer,
        method="GET",
        path="/alerts",
    ),
    Operation(
        name="tokens",
        summary="List the tokens",
        needs="admin",
        handler=on_all(_admin, AdminOperations.tokens, requests.Request),
        answer=TokensAnswer,
        method="GET",
        path="/tokens",
    ),
    Operation(
        name="create_token",
        summary="Create a token",
        needs="admin",
        handler=on_all(_admin, AdminOperations.create_token, requests.TokenCreateRequest),
        answer=TokenAnswer,
        method="POST",
        path="/tokens",
        body="fields",
        writes=True,
    ),
    Operation(
        name="revoke_token",
        summary="Revoke a token",
        target="token",
        needs="admin",
        handler=on_target(_admin, AdminOperations.revoke_token, requests.Request),
        answer=TokensAnswer,
        method="POST",
        path="/tokens/{target}/revoke",
        body="fields",
        writes=True,
    ),
)
"""Operations over HTTP alone: over MQTT a requester is its name on the broker, and tokens do not count."""

LOCAL_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        name="token_create",
        summary="Create a token",
        needs="admin",
        handler=on_all(_admin, AdminOperations.token_create, requests.TokenCreateRequest),
        answer=TokenAnswer,
        method="POST",
        path="/local/token_create",
        body="fields",
        writes=True,
        local=True,
    ),
    Operation(
        name="token_list",
        summary="List the tokens",
        needs="admin",
        handler=on_all(_admin, AdminOperations.token_list, requests.Request),
        answer=TokensAnswer,
        method="POST",
        path="/local/token_list",
        body="fields",
        local=True,
    ),
    Operation(
        name="token_revoke",
        summary="Revoke a token",
        needs="admin",
        handler=on_all(_admin, AdminOperations.token_revoke, requests.TokenRevokeRequest),
        answer=TokensAnswer,
        method="POST",
        path="/local/token_revoke",
        body="fields",
        writes=True,
        local=True,
    ),
    Operation(
        name="keys_show",
        summary="Show the sealing keys",
        needs="admin",
        handler=on_all(_admin, AdminOperations.keys_show, requests.Request),
        answer=KeysAnswer,
        method="POST",
        path="/local/keys_show",
        body="fields",
        local=True,
    ),
    Operation(
        name="keys_rotate",
        summary="Seal all secrets with a new key",
        needs="admin",
        handler=on_all(_admin, AdminOperations.keys_rotate, requests.Request),
        answer=KeysAnswer,
        method="POST",
        path="/local/keys_rotate",
        body="fields",
        writes=True,
        local=True,
    ),
    Operation(
        name="keys_add",
        summary="Add a key that opens sealed values",
        needs="admin",
        handler=on_all(_admin, AdminOperations.keys_add, requests.KeyAddRequest),
        answer=KeysAnswer,
        method="POST",
        path="/local/keys_add",
        body="fields",
        writes=True,
        local=True,
    ),
    Operation(
        name="keys_remove",
        summary="Remove a key",
        needs="admin",
        handler=on_all(_admin, AdminOperations.keys_remove, requests.KeyRemoveRequest),
        answer=KeysAnswer,
        method="POST",
        path="/local/keys_remove",
        body="fields",
        writes=True,
        local=True,
    ),
    Operation(
        name="keys_acknowledge",
        summary="Acknowledge that an earlier key file is lost",
        needs="admin",
        handler=on_all(_admin, AdminOperations.keys_acknowledge, requests.Request),
        answer=KeysAnswer,
        method="POST",
        path="/local/keys_acknowledge",
        body="fields",
        writes=True,
        local=True,
    ),
    Operation(
        name="broker_passwords",
        summary="Read the passwords of services on the broker",
        needs="admin",
        handler=on_all(_admin, AdminOperations.broker_passwords, requests.Request),
        answer=PasswordsAnswer,
        method="POST",
        path="/local/broker_passwords",
        body="fields",
        local=True,
    ),
    Operation(
        name="backup",
        summary="Copy the database",
        needs="admin",
        handler=on_all(_admin, AdminOperations.backup, requests.Request),
        answer=BackupAnswer,
        method="POST",
        path="/local/backup",
        body="fields",
        local=True,
    ),
)
"""Operations of the daemon's socket in the data directory, for users who may write that directory."""

BY_NAME: Mapping[str, Operation] = {
    operation.name: operation for operation in (*OPERATIONS, *HTTP_OPERATIONS, *LOCAL_OPERATIONS)
}


def encode_answer(operation: Operation, answer: Answer, request_id: str | None) -> bytes:
    """Return the encoded answer of an operation, with ``status`` and ``request_id`` unless it has its own status."""
    return answer.body if operation.own_status else encode_success(answer.body, request_id)
