#include "store/catalog.h"

#include "base/thread.h"
#include "store/catalog_file.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum statement { PUT, DELETE, GET, EACH, EACH_BELOW, TABLE_STATEMENTS };

static const char *const statement_sql[TABLE_STATEMENTS] = {
	[PUT] = ("INSERT INTO %s (id, parent, body) VALUES (?1, ?2, ?3) "
		 "ON CONFLICT (id) DO UPDATE SET parent = excluded.parent, body = excluded.body"),
	[DELETE] = "DELETE FROM %s WHERE id = ?1",
	[GET] = "SELECT id, parent, body FROM %s WHERE id = ?1",
	[EACH] = "SELECT id, parent, body FROM %s ORDER BY seq",
	[EACH_BELOW] = "SELECT id, parent, body FROM %s WHERE id >= ?1 AND id < ?2 ORDER BY seq",
};

struct catalog {
	struct arena arena; /* this struct's own memory, freed last */
	struct lock lock;   /* guards the connection and its statements */
	struct catalog_file file;
	sqlite3_stmt *put[CATALOG_TABLE_COUNT], *del[CATALOG_TABLE_COUNT]; /* kept once used */
	sqlite3_stmt *begin, *commit, *rollback;
};

int catalog_open(const char *path, struct catalog **out, struct err *e)
{
	struct arena arena = { 0 };
	struct catalog *c = arena_new0(&arena, struct catalog);

	if (catalog_file_open(arena_strdup(&arena, path), &c->file, e) < 0) {
		arena_free(&arena);
		return -1;
	}
	lock_init(&c->lock);
	c->arena = arena;
	*out = c;
	return 0;
}

void catalog_close(struct catalog *c)
{
	struct arena arena;

	if (!c)
		return;
	for (int t = 0; t < CATALOG_TABLE_COUNT; t++) {
		(void)sqlite3_finalize(c->put[t]);
		(void)sqlite3_finalize(c->del[t]);
	}
	(void)sqlite3_finalize(c->begin);
	(void)sqlite3_finalize(c->commit);
	(void)sqlite3_finalize(c->rollback);
	catalog_file_close(&c->file);
	lock_destroy(&c->lock);
	arena = c->arena;
	arena_free(&arena);
}

static int prepare(struct catalog *c, const char *sql, unsigned flags, sqlite3_stmt **out, struct err *e)
{
	if (*out)
		return 0;
	if (sqlite3_prepare_v3(c->file.db, sql, -1, flags, out, NULL) != SQLITE_OK)
		return catalog_file_err(&c->file, "prepare", e);
	return 0;
}

static int prepare_for(struct catalog *c, enum statement which, enum catalog_table t, unsigned flags,
		       sqlite3_stmt **out, struct err *e)
{
	char *sql;
	int rc;

	if (*out)
		return 0;
	sql = sqlite3_mprintf(statement_sql[which], catalog_table_name(t));
	if (!sql)
		BUG("out of memory");
	rc = prepare(c, sql, flags, out, e);
	sqlite3_free(sql);
	return rc;
}

static void bind_text(sqlite3_stmt *s, int i, const char *text)
{
	if (text)
		(void)sqlite3_bind_text(s, i, text, -1, SQLITE_STATIC);
	else
		(void)sqlite3_bind_null(s, i);
}

/* Steps a statement that gives no rows and makes it ready for the next use. */
static int run(struct catalog *c, sqlite3_stmt *s, const char *what, struct err *e)
{
	int rc = sqlite3_step(s), failed = 0;

	if (rc != SQLITE_DONE)
		failed = catalog_file_err(&c->file, what, e);
	(void)sqlite3_reset(s);
	(void)sqlite3_clear_bindings(s);
	return failed;
}

static int apply_locked(struct catalog *c, const struct catalog_change *change, struct err *e)
{
	const struct record *r = &change->record;
	sqlite3_stmt **s = r->body.p ? &c->put[change->table] : &c->del[change->table];

	lock_assert_held(&c->lock);
	if (prepare_for(c, r->body.p ? PUT : DELETE, change->table, SQLITE_PREPARE_PERSISTENT, s, e) < 0)
		return -1;
	bind_text(*s, 1, r->id);
	if (r->body.p) {
		bind_text(*s, 2, r->parent);
		(void)sqlite3_bind_blob64(*s, 3, r->body.p, r->body.len, SQLITE_STATIC);
	}
	return run(c, *s, catalog_table_name(change->table), e);
}

static int transaction_locked(struct catalog *c, const struct catalog_change *changes, size_t n,
			      struct err *e)
{
	struct err ignored;

	if (prepare(c, "BEGIN IMMEDIATE", SQLITE_PREPARE_PERSISTENT, &c->begin, e) < 0 ||
	    prepare(c, "COMMIT", SQLITE_PREPARE_PERSISTENT, &c->commit, e) < 0 ||
	    prepare(c, "ROLLBACK", SQLITE_PREPARE_PERSISTENT, &c->rollback, e) < 0 ||
	    run(c, c->begin, "begin", e) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (apply_locked(c, &changes[i], e) < 0) {
			(void)run(c, c->rollback, "rollback", &ignored); /* SQLite may have done it */
			return -1;
		}
	if (run(c, c->commit, "commit", e) < 0) {
		(void)run(c, c->rollback, "rollback", &ignored);
		return -1;
	}
	return 0;
}

static int change_locked(struct catalog *c, const struct catalog_change *changes, size_t n, struct err *e)
{
	if (n == 1)
		return apply_locked(c, changes, e); /* one statement is a transaction of its own */
	return transaction_locked(c, changes, n, e);
}

int catalog_change(struct catalog *c, const struct catalog_change *changes, size_t n,
		   enum catalog_durability durability, struct err *e)
{
	if (n > 0) {
		LOCKED(&c->lock);
		if (change_locked(c, changes, n, e) < 0)
			return -1;
	}
	/* Outside the lock, so that nobody else waits for the disk. Where a checkpoint emptied the WAL
	 * meanwhile, it has synced the change into the main file itself. */
	if (durability == CATALOG_FULL && fdatasync(c->file.wal_fd) < 0)
		return err_sys(e, errno, "sync catalog %s", c->file.path);
	return 0;
}

int catalog_put(struct catalog *c, enum catalog_table t, const struct record *r, struct err *e)
{
	struct catalog_change change = { t, *r };

	BUG_ON(!r->body.p);
	return catalog_change(c, &change, 1, CATALOG_NORMAL, e);
}

int catalog_delete(struct catalog *c, enum catalog_table t, const char *id, struct err *e)
{
	struct catalog_change change = { t, { .id = id } };

	return catalog_change(c, &change, 1, CATALOG_NORMAL, e);
}

static struct record row(sqlite3_stmt *s)
{
	const void *body = sqlite3_column_blob(s, 2); /* NULL for no bytes */

	return (struct record){
		.id = (const char *)sqlite3_column_text(s, 0),
		.parent = (const char *)sqlite3_column_text(s, 1),
		.body = { body ? body : "", (size_t)sqlite3_column_bytes(s, 2) },
	};
}

/* Gives the statement's rows to fn and ends the statement. */
static int walk_locked(struct catalog *c, sqlite3_stmt *s, enum catalog_table t,
		       int (*fn)(void *ctx, const struct record *r, struct err *e), void *ctx, struct err *e)
{
	int rc, failed = 0;

	lock_assert_held(&c->lock);
	while (failed == 0 && (rc = sqlite3_step(s)) != SQLITE_DONE) {
		struct record r;

		if (rc != SQLITE_ROW) {
			failed = catalog_file_err(&c->file, catalog_table_name(t), e);
			break;
		}
		r = row(s);
		failed = fn(ctx, &r, e) < 0 ? -1 : 0;
	}
	(void)sqlite3_finalize(s);
	return failed;
}

int catalog_each(struct catalog *c, enum catalog_table t,
		 int (*fn)(void *ctx, const struct record *r, struct err *e), void *ctx, struct err *e)
{
	sqlite3_stmt *s = NULL;
	int rc;

	LOCKED(&c->lock);
	if (prepare_for(c, EACH, t, 0, &s, e) < 0)
		return -1;
	rc = walk_locked(c, s, t, fn, ctx, e);
	(void)sqlite3_db_release_memory(c->file.db); /* the start reads everything, then nobody does */
	return rc;
}

int catalog_each_below(struct catalog *c, enum catalog_table t, const char *prefix,
		       int (*fn)(void *ctx, const struct record *r, struct err *e), void *ctx, struct err *e)
{
	auto_arena a = { 0 };
	char *end = arena_strdup(&a, prefix);
	sqlite3_stmt *s = NULL;

	BUG_ON(!*prefix);
	end[strlen(end) - 1]++; /* the first text that no longer begins so */
	LOCKED(&c->lock);
	if (prepare_for(c, EACH_BELOW, t, 0, &s, e) < 0)
		return -1;
	bind_text(s, 1, prefix);
	bind_text(s, 2, end);
	return walk_locked(c, s, t, fn, ctx, e);
}

int catalog_get(struct catalog *c, enum catalog_table t, const char *id, struct arena *a,
		struct record *out, struct err *e)
{
	sqlite3_stmt *s = NULL;
	int rc, failed = 0;

	LOCKED(&c->lock);
	if (prepare_for(c, GET, t, 0, &s, e) < 0)
		return -1;
	bind_text(s, 1, id);
	rc = sqlite3_step(s);
	if (rc == SQLITE_ROW) {
		struct record r = row(s);

		out->id = arena_strdup(a, r.id);
		out->parent = arena_strdup(a, r.parent);
		out->body = (struct str){ arena_strndup(a, r.body.p, r.body.len), r.body.len };
	} else if (rc == SQLITE_DONE) {
		failed = err_set(e, ERR_NOT_FOUND, "no %s in the catalog's %s", id, catalog_table_name(t));
	} else {
		failed = catalog_file_err(&c->file, catalog_table_name(t), e);
	}
	(void)sqlite3_finalize(s);
	return failed;
}
