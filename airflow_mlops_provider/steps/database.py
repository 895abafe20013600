"""A table of a database, validated where it lies: only counts and samples leave it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, NoSuchTableError, SQLAlchemyError

from airflow_mlops_provider.exceptions import DataError, ParameterError, ServiceError
from airflow_mlops_provider.steps.batches import gx_context

_ADDING = {"postgresql": "add_postgres", "sqlite": "add_sqlite"}
"""How Great Expectations adds a database, by its dialect."""
_AWAY = ("OperationalError", "InterfaceError")
"""What drivers raise when a database does not answer; the names are those of PEP 249."""


@dataclass(frozen=True)
class DatabaseTable:
    """A table, and how to reach it."""

    url: str = field(repr=False)
    """SQLAlchemy URL, possibly with a password."""
    name: str
    schema: str | None = None

    @property
    def uri(self) -> str:
        """The table as reports call it, without user and password."""
        url = self._url
        host = f"{url.host or ''}{f':{url.port}' if url.port else ''}"
        return f"{url.get_backend_name()}://{host}/{url.database or ''}#{self._full_name}"

    @cached_property
    def columns(self) -> list[str]:
        """The names of all columns.

        Raises:
            DataError: there is no such table, or it has no rows.
            ParameterError: SQLAlchemy cannot open such a URL.
            ServiceError: the database does not answer.
        """
        with self._answering() as connection:
            columns = sa.inspect(connection).get_columns(self.name, self.schema)
            rows = sa.table(self.name, schema=self.schema)
            some = connection.execute(sa.select(sa.literal(1)).select_from(rows).limit(1)).first()
        if some is None:
            raise DataError(
                f"{self.uri} has no rows to validate. Check what fills the table, or wait until "
                "its data has arrived."
            )
        return [column["name"] for column in columns]

    def names(self) -> Any:
        """Return the table as a batch of Great Expectations."""
        return self.values(None)

    def values(self, columns: Sequence[str] | None) -> Any:
        """Return the table as a batch of Great Expectations, with all its columns."""
        if not self.columns:  # reading them tells a missing or empty table
            raise self._missing()
        with self._answering() as connection:
            quoted = connection.dialect.identifier_preparer.quote(self.name)
            adding = _ADDING.get(self._url.get_backend_name(), "add_sql")
            database = getattr(gx_context().data_sources, adding)(
                "database", connection_string=self.url
            )
            table = database.add_table_asset("table", table_name=quoted, schema_name=self.schema)
            return table.add_batch_definition_whole_table("whole").get_batch()

    def require_answers(self, told: str) -> None:
        """Check what an expectation raised.

        Raises:
            ServiceError: it was the database, which went away.
        """
        if self._url.get_backend_name() != "sqlite" and any(word in told for word in _AWAY):
            raise self._away(told)

    @property
    def _full_name(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name

    @property
    def _url(self) -> sa.URL:
        try:
            return sa.make_url(self.url)
        except (SQLAlchemyError, ValueError):
            # the original holds the URL, and with it the password
            raise ParameterError(
                "Expected a SQLAlchemy URL such as postgresql://user@host:5432/database for the "
                f"table {self._full_name!r}, got another text. Correct the Connection."
            ) from None

    @contextmanager
    def _answering(self) -> Iterator[sa.Connection]:
        """Give a connection, and word what goes wrong with it; passwords stay out."""
        try:
            engine = sa.create_engine(self._url, poolclass=sa.NullPool)
            with engine.connect() as connection:
                yield connection
        except NoSuchTableError:
            raise self._missing() from None
        except DBAPIError as error:
            if isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError):
                raise self._away(str(error.orig)) from None
            raise self._refused(str(error.orig)) from None
        except (SQLAlchemyError, ImportError, OSError, ValueError) as error:
            raise self._refused(str(error)) from None

    def _missing(self) -> DataError:
        return DataError(
            f"There is no table {self._full_name!r} at {self.uri}. Correct its name or schema, or "
            "run what makes it."
        )

    def _away(self, told: str) -> ServiceError:
        return ServiceError(
            f"The database of {self.uri} does not answer: {self._clean(told)}. Start it, or "
            "correct host and port of the Connection."
        )

    def _refused(self, told: str) -> ParameterError:
        return ParameterError(
            f"{self.uri} cannot be read: {self._clean(told)}. Correct the Connection, the table's "
            "name, or the rights of its user."
        )

    def _clean(self, told: str) -> str:
        """Return a message of a driver as one line without the password."""
        line = " ".join(told.split())[:500].rstrip(".")
        secret = self._url.password
        for form in {str(secret), quote(str(secret))} if secret else ():
            line = line.replace(form, "***")
        return line
