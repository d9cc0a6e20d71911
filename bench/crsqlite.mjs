// A pair of databases with cr-sqlite in them, or one without, in Node.js. It is told what to do by lines of JSON on its standard
// input, answers each with a line, and measures time inside, so that the pipe is not part of any figure.
//
// The WebAssembly build keeps its databases in a browser's storage. Here it gets ordinary files, so that its figures
// include a disk as everybody's do.
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { pathToFileURL } from 'node:url';

const modules = process.argv[1];
const load = (file) => import(pathToFileURL(path.join(modules, '@vlcn.io/wa-sqlite', file)));
const { default: factory } = await load('dist/crsqlite-sync.mjs');
const SQLite = await load('src/sqlite-api.js');
const VFS = await load('src/VFS.js');

class Files extends VFS.Base {
  name = 'files';
  mxPathName = 512;
  open = new Map();

  xOpen(name, id, flags, out) {
    name ??= path.join(fs.mkdtempSync('/tmp/rowmesh-bench'), 'temp');
    try {
      const create = flags & VFS.SQLITE_OPEN_CREATE ? fs.constants.O_CREAT : 0;
      this.open.set(id, { name, flags, fd: fs.openSync(name, fs.constants.O_RDWR | create) });
    } catch {
      return VFS.SQLITE_CANTOPEN;
    }
    out.setInt32(0, flags, true);
    return VFS.SQLITE_OK;
  }
  xClose(id) {
    const f = this.open.get(id);
    this.open.delete(id);
    fs.closeSync(f.fd);
    if (f.flags & VFS.SQLITE_OPEN_DELETEONCLOSE) fs.unlinkSync(f.name);
    return VFS.SQLITE_OK;
  }
  xRead(id, data, at) {
    const n = fs.readSync(this.open.get(id).fd, data, 0, data.byteLength, at);
    data.fill(0, n);
    return n < data.byteLength ? VFS.SQLITE_IOERR_SHORT_READ : VFS.SQLITE_OK;
  }
  xWrite(id, data, at) {
    fs.writeSync(this.open.get(id).fd, data, 0, data.byteLength, at);
    return VFS.SQLITE_OK;
  }
  xTruncate(id, size) {
    fs.ftruncateSync(this.open.get(id).fd, size);
    return VFS.SQLITE_OK;
  }
  xSync(id) {
    fs.fdatasyncSync(this.open.get(id).fd);
    return VFS.SQLITE_OK;
  }
  xFileSize(id, out) {
    out.setBigInt64(0, BigInt(fs.fstatSync(this.open.get(id).fd).size), true);
    return VFS.SQLITE_OK;
  }
  xDelete(name) {
    fs.rmSync(name, { force: true });
    return VFS.SQLITE_OK;
  }
  xAccess(name, flags, out) {
    out.setInt32(0, fs.existsSync(name) ? 1 : 0, true);
    return VFS.SQLITE_OK;
  }
}

const api = SQLite.Factory(await factory({ wasmBinary: fs.readFileSync(path.join(modules, '@vlcn.io/wa-sqlite/dist/crsqlite-sync.wasm')) }));
api.vfs_register(new Files(), false);

async function query(db, sql) {
  const out = [];
  await api.exec(db, sql, (row) => out.push(row));
  return out;
}

async function withStatement(db, sql, f) {
  const text = api.str_new(db, sql);
  const { stmt } = await api.prepare_v2(db, api.str_value(text));
  try {
    return await f(stmt);
  } finally {
    await api.finalize(stmt);
    api.str_finish(text);
  }
}

// What crosses the wire: an engine that ships no encoding gets a compact one here, of lengths, varints and plain bytes.
class Writer {
  bytes = Buffer.alloc(1 << 16);
  n = 0;
  room(n) {
    if (this.n + n <= this.bytes.length) return;
    const more = Buffer.alloc(Math.max(2 * this.bytes.length, this.n + n));
    this.bytes.copy(more, 0, 0, this.n);
    this.bytes = more;
  }
  integer(v) { // zigzag, little end first
    this.room(9);
    for (v = v < 0 ? -2 * v - 1 : 2 * v; v >= 128; v = Math.floor(v / 128)) this.bytes[this.n++] = (v % 128) | 128;
    this.bytes[this.n++] = v;
  }
  blob(b) {
    this.integer(b.byteLength);
    this.room(b.byteLength);
    this.bytes.set(b, this.n);
    this.n += b.byteLength;
  }
  text(s) { this.blob(Buffer.from(s)); }
  value(type, v) {
    this.integer(type);
    if (type === SQLite.SQLITE_INTEGER) this.integer(v);
    else if (type === SQLite.SQLITE_TEXT) this.text(v);
    else if (type === SQLite.SQLITE_BLOB) this.blob(v);
    else if (type === SQLite.SQLITE_FLOAT) {
      this.room(8);
      this.n = this.bytes.writeDoubleLE(v, this.n);
    }
  }
}

class Reader {
  at = 0;
  constructor(bytes) { this.bytes = bytes; }
  integer() {
    let v = 0;
    for (let unit = 1; ; unit *= 128) {
      const b = this.bytes[this.at++];
      v += (b & 127) * unit;
      if (b < 128) return v % 2 ? -(v + 1) / 2 : v / 2;
    }
  }
  blob() {
    const n = this.integer();
    return this.bytes.subarray(this.at, (this.at += n));
  }
  text() { return this.blob().toString(); }
  bindValue(stmt, i) {
    const type = this.integer();
    if (type === SQLite.SQLITE_INTEGER) api.bind_int64(stmt, i, BigInt(this.integer()));
    else if (type === SQLite.SQLITE_TEXT) api.bind_text(stmt, i, this.text());
    else if (type === SQLite.SQLITE_BLOB) api.bind_blob(stmt, i, this.blob());
    else if (type === SQLite.SQLITE_FLOAT) {
      api.bind_double(stmt, i, this.bytes.readDoubleLE(this.at));
      this.at += 8;
    } else api.bind_null(stmt, i);
  }
}

let dir, plain, rows;
const dbs = [];
const since = [0, 0];

async function open(side) {
  const db = await api.open_v2(path.join(dir, `${side}.db`), SQLite.SQLITE_OPEN_CREATE | SQLite.SQLITE_OPEN_READWRITE, 'files');
  dbs[side] = db;
  // Without shared memory SQLite has write-ahead logging for one connection only.
  await query(db, 'PRAGMA locking_mode = exclusive; PRAGMA journal_mode = wal; PRAGMA synchronous = normal');
  await query(db, 'CREATE TABLE item(id TEXT PRIMARY KEY NOT NULL, a INTEGER, b TEXT, c REAL, d TEXT)');
  if (!plain) await query(db, `SELECT crsql_as_crr('item')`);
}

const statements = {
  insert: 'INSERT INTO item VALUES(?, ?, ?, ?, ?)',
  update: 'UPDATE item SET a = ? WHERE id = ?',
  delete: 'DELETE FROM item WHERE id = ?',
};

async function write({ side, op, which, per, value }) {
  const db = dbs[side];
  await withStatement(db, statements[op], async (stmt) => {
    for (let i = 0; i < which.length; i += per) {
      await query(db, 'BEGIN');
      for (const n of which.slice(i, i + per)) {
        const [id, a, b, c, d] = rows[n];
        if (op === 'insert') {
          api.bind_text(stmt, 1, id);
          api.bind_int(stmt, 2, a);
          api.bind_text(stmt, 3, b);
          api.bind_double(stmt, 4, c);
          api.bind_text(stmt, 5, d);
        } else if (op === 'update') {
          api.bind_int(stmt, 1, value + n);
          api.bind_text(stmt, 2, id);
        } else {
          api.bind_text(stmt, 1, id);
        }
        await api.step(stmt);
        await api.reset(stmt);
      }
      await query(db, 'COMMIT');
    }
  });
}

async function changes(side) {
  const w = new Writer();
  w.blob((await query(dbs[side], 'SELECT crsql_site_id()'))[0][0]);
  const sql = 'SELECT "table", pk, cid, val, col_version, db_version, cl, seq FROM crsql_changes WHERE db_version > ? AND site_id = crsql_site_id()';
  await withStatement(dbs[side], sql, async (stmt) => {
    api.bind_int(stmt, 1, since[side]);
    while ((await api.step(stmt)) === SQLite.SQLITE_ROW) {
      w.text(api.column_text(stmt, 0));
      w.blob(api.column_blob(stmt, 1));
      w.text(api.column_text(stmt, 2));
      w.value(api.column_type(stmt, 3), api.column(stmt, 3));
      for (let i = 4; i < 8; i++) w.integer(api.column_int(stmt, i));
      since[side] = Math.max(since[side], api.column_int(stmt, 5));
    }
  });
  return w.bytes.subarray(0, w.n);
}

async function apply(side, message) {
  const r = new Reader(message);
  const site = r.blob();
  await query(dbs[side], 'BEGIN');
  const sql = 'INSERT INTO crsql_changes("table", pk, cid, val, col_version, db_version, site_id, cl, seq) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)';
  await withStatement(dbs[side], sql, async (stmt) => {
    while (r.at < message.length) {
      api.bind_text(stmt, 1, r.text());
      api.bind_blob(stmt, 2, r.blob());
      api.bind_text(stmt, 3, r.text());
      r.bindValue(stmt, 4);
      api.bind_int(stmt, 5, r.integer());
      api.bind_int(stmt, 6, r.integer());
      api.bind_blob(stmt, 7, site);
      api.bind_int(stmt, 8, r.integer());
      api.bind_int(stmt, 9, r.integer());
      await api.step(stmt);
      await api.reset(stmt);
    }
  });
  await query(dbs[side], 'COMMIT');
}

async function ship({ sides }) {
  let bytes = 0;
  for (const side of sides) {
    const message = await changes(side);
    bytes += message.length;
    await apply(1 - side, message);
  }
  return bytes;
}

const commands = {
  async open(c) {
    ({ dir, plain, rows } = c);
    await open(0);
  },
  write,
  async join() {
    await open(1);
    return ship({ sides: [0] });
  },
  ship,
  async size() {
    return (await query(dbs[0], 'PRAGMA page_count'))[0][0] * (await query(dbs[0], 'PRAGMA page_size'))[0][0];
  },
  async digest({ side }) {
    const all = await query(dbs[side], 'SELECT * FROM item ORDER BY id');
    return `${all.length} rows, ${crypto.createHash('sha256').update(JSON.stringify(all)).digest('hex')}`;
  },
  async cpu() {
    const { user, system } = process.cpuUsage();
    return user + system;
  },
  async close() {
    for (const db of dbs) {
      await query(db, 'SELECT crsql_finalize()');
      await api.close(db);
    }
  },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const c = JSON.parse(line);
  let answer;
  try {
    const began = performance.now();
    const value = await commands[c.cmd](c);
    answer = { ms: performance.now() - began, value: value ?? null };
  } catch (e) {
    answer = { error: String(e?.message ?? e) };
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
}
