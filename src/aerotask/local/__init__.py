"""A Postgres and a Valkey of one's own, from wheels: what `up`, `demo` and the tests run on."""
