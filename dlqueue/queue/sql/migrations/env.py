"""Alembic's entry: runs the migrations on the connection that `dlqueue.queue.sql.migrate` hands over."""

from alembic import context

from dlqueue.queue.sql.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,  # the caller's transaction holds all of it
)
context.run_migrations()
