"""Alembic's entry: the connection and its transaction are given by the caller."""

from alembic import context

from upkept.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=False,
    transactional_ddl=False,
    compare_type=True,
)
context.run_migrations()
