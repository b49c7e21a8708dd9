# A database with a write-ahead log, written by one process and read by another.
set -eu
sqlite3 data "pragma journal_mode = wal; create table t (a integer primary key, b text);"
sqlite3 data "begin; insert into t (b) values ('one'), ('two'), ('three'); commit;"
sqlite3 data "select count(*), group_concat(b) from t;"
sqlite3 data "vacuum; pragma integrity_check;"
echo "sqlite done"
