package sqlbridge

// format is the version of the tables below, kept in _rowmesh_meta.
const format = 1

// reserved begins the name of every table, index and trigger of ours; reservedView of every view.
const (
	reserved     = "_rowmesh_"
	reservedView = "rowmesh_"
)

// ddl makes our tables. docs/SQL.md says what each holds. No constraint stands on the outbox but its
// sequence: the conflict clause of the user's statement would override the trigger's.
var ddl = []string{
	`CREATE TABLE _rowmesh_meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID`,
	`CREATE TABLE _rowmesh_origins(o INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, head INTEGER NOT NULL)`,
	`CREATE TABLE _rowmesh_schemas(n INTEGER PRIMARY KEY, def BLOB NOT NULL)`,
	`CREATE TABLE _rowmesh_tables(tbl INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, parts INTEGER NOT NULL, cols TEXT NOT NULL,
		state TEXT NOT NULL DEFAULT 'unknown', drift INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '', sql TEXT NOT NULL DEFAULT '')`,
	`CREATE TABLE _rowmesh_rows(n INTEGER PRIMARY KEY, tbl INTEGER NOT NULL, k NOT NULL, o INTEGER NOT NULL, h INTEGER NOT NULL, v BLOB NOT NULL, UNIQUE(tbl, k))`,
	`CREATE TABLE _rowmesh_txns(o INTEGER NOT NULL, h INTEGER NOT NULL, rows BLOB NOT NULL, PRIMARY KEY(o, h)) WITHOUT ROWID`,
	`CREATE TABLE _rowmesh_outbox(seq INTEGER PRIMARY KEY, tbl, op, ms, k1)`,
	`CREATE TABLE _rowmesh_unshown(tbl INTEGER NOT NULL, k NOT NULL, image BLOB, PRIMARY KEY(tbl, k)) WITHOUT ROWID`,
	`CREATE TABLE _rowmesh_parked(tbl INTEGER NOT NULL, k NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL, blocked_by, PRIMARY KEY(tbl, k)) WITHOUT ROWID`,
	`CREATE TABLE _rowmesh_claims(tbl INTEGER NOT NULL, idx TEXT NOT NULL, tuple BLOB NOT NULL, k NOT NULL, PRIMARY KEY(tbl, idx, tuple, k)) WITHOUT ROWID`,
	`CREATE TABLE _rowmesh_suppress(on_ INTEGER NOT NULL)`,
	`INSERT INTO _rowmesh_suppress VALUES(0)`,
	`CREATE TABLE _rowmesh_control(n INTEGER PRIMARY KEY AUTOINCREMENT, request TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'new', detail TEXT NOT NULL DEFAULT '', ms INTEGER NOT NULL)`,
	`CREATE VIEW rowmesh_parked AS SELECT t.name AS "table", p.k AS "key", p.reason, p.detail, p.blocked_by FROM _rowmesh_parked p JOIN _rowmesh_tables t USING(tbl)`,
	// One read, one JSON document. It is put together without JSON functions, which not every SQLite has.
	`CREATE VIEW rowmesh_status AS SELECT '{"db_is_ready":' || CASE (SELECT value FROM _rowmesh_meta WHERE name = 'ready') WHEN 1 THEN 'true' ELSE 'false' END
		|| ',"rows":' || (SELECT count(*) FROM _rowmesh_rows JOIN _rowmesh_tables USING(tbl) WHERE substr(name, 1, 9) <> '_rowmesh_')
		|| ',"outbox":' || (SELECT count(*) FROM _rowmesh_outbox) || ',"parked":' || (SELECT count(*) FROM _rowmesh_parked)
		|| ',"unshown":' || (SELECT count(*) FROM _rowmesh_unshown)
		|| ',"live":' || coalesce((SELECT value FROM _rowmesh_meta WHERE name = 'live'), 'null') || '}' AS status`,
	`CREATE VIEW rowmesh_tables AS SELECT name, state, reason FROM _rowmesh_tables WHERE substr(name, 1, 9) <> '_rowmesh_'`,
}
