#include "store/catalog_file.h"

#include "base/fd.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Room that is kept for the catalog's own growth, so that a full disk does not keep kubelet from
 * stopping and removing the pods that fill it. */
enum { WAL_BYTES = 4 << 20, SPARE_BYTES = 1 << 20 };

/* "knar": what file(1) and a look at the header show; another program's database has another. */
enum { APPLICATION_ID = 0x6b6e6172 };

static const char *const table_names[CATALOG_TABLE_COUNT] = {
	[CATALOG_META] = "meta",
	[CATALOG_PODS] = "pods",
	[CATALOG_CONTAINERS] = "containers",
	[CATALOG_IMAGES] = "images",
	[CATALOG_REFS] = "refs",
	[CATALOG_LAYERS] = "layers",
	[CATALOG_ATTACHMENTS] = "attachments",
};

const char *catalog_table_name(enum catalog_table t)
{
	return table_names[t];
}

/* Once for the process: no memory statistics (a lock at each allocation), no lock of SQLite's own
 * around a connection that has ours, a small lookaside. */
static void sqlite_configure(void)
{
	(void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	(void)sqlite3_config(SQLITE_CONFIG_MULTITHREAD);
	(void)sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 128, 64);
}

int catalog_file_err(const struct catalog_file *f, const char *what, struct err *e)
{
	int code = sqlite3_errcode(f->db), sys = sqlite3_system_errno(f->db);

	switch (code) {
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return err_set(e, ERR_DATA_LOSS,
			       "catalog %s: %s: the file is damaged (%s); stop knarrd, move it and its -wal "
			       "file away (a backup may be put in its place) and start again",
			       f->path, what, sqlite3_errmsg(f->db));
	case SQLITE_FULL:
		return err_set(e, ERR_EXHAUSTED, "catalog %s: %s: the disk is full; nothing was changed",
			       f->path, what);
	case SQLITE_READONLY:
	case SQLITE_PERM:
		return err_set(e, ERR_DENIED, "catalog %s: %s: %s", f->path, what, sqlite3_errmsg(f->db));
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
		if (sys)
			return err_sys(e, sys, "catalog %s: %s", f->path, what);
		break;
	default:
		break;
	}
	return err_set(e, ERR_SYSTEM, "catalog %s: %s: %s", f->path, what, sqlite3_errmsg(f->db));
}

static int exec(struct catalog_file *f, const char *what, const char *sql, struct err *e)
{
	if (sqlite3_exec(f->db, sql, NULL, NULL, NULL) != SQLITE_OK)
		return catalog_file_err(f, what, e);
	return 0;
}

/* The first column of the first row as a number, 0 without a row. */
static int query_number(struct catalog_file *f, const char *sql, int64_t *out, struct err *e)
{
	sqlite3_stmt *s = NULL;
	int rc = sqlite3_prepare_v2(f->db, sql, -1, &s, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(s);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
		(void)catalog_file_err(f, "read", e);
		(void)sqlite3_finalize(s);
		return -1;
	}
	*out = rc == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
	(void)sqlite3_finalize(s);
	return 0;
}

static int lock_take(struct catalog_file *f, struct err *e)
{
	auto_arena a = { 0 };
	auto_fd int fd = -1;
	char *path = arena_printf(&a, "%s.lock", f->path), *pid;
	ssize_t got;

	fd = fd_create(AT_FDCWD, path, O_RDWR | O_CREAT, 0600, e);
	if (fd < 0)
		return -1;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		char owner[32] = "";

		if (errno != EWOULDBLOCK)
			return err_sys(e, errno, "lock %s", path);
		got = pread(fd, owner, sizeof(owner) - 1, 0);
		owner[got > 0 ? strcspn(owner, "\n") : 0] = '\0';
		return err_set(e, ERR_UNAVAILABLE,
			       "catalog %s is in use by another knarrd (pid %s); stop it first, or give this "
			       "one another root folder", f->path, *owner ? owner : "unknown");
	}
	pid = arena_printf(&a, "%d\n", (int)getpid());
	/* In this order a full disk, which has the file's one block already, does not matter. */
	if (fd_write_all(fd, pid, strlen(pid), e) < 0)
		return err_in(e, "write %s", path);
	if (ftruncate(fd, (off_t)strlen(pid)) < 0)
		return err_sys(e, errno, "write %s", path);
	f->lock_fd = fd_take(&fd);
	return 0;
}

/* Records keep their order of insertion by seq; id is what they are found by. */
static int schema_make(struct catalog_file *f, struct err *e)
{
	auto_arena a = { 0 };

	if (exec(f, "begin", "BEGIN IMMEDIATE", e) < 0)
		return -1;
	for (int t = 0; t < CATALOG_TABLE_COUNT; t++)
		if (exec(f, "make tables", arena_printf(&a,
				"CREATE TABLE %s (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, "
				"parent TEXT, body BLOB NOT NULL)", table_names[t]), e) < 0)
			return -1;
	return exec(f, "make tables", arena_printf(&a,
			"INSERT INTO meta (id, body) VALUES ('schema', '{\"version\":%d}');"
			"PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
			CATALOG_SCHEMA, APPLICATION_ID, CATALOG_SCHEMA), e);
}

static int schema_check(struct catalog_file *f, struct err *e)
{
	int64_t app, version, tables;

	if (query_number(f, "PRAGMA application_id", &app, e) < 0 ||
	    query_number(f, "PRAGMA user_version", &version, e) < 0 ||
	    query_number(f, "SELECT count(*) FROM sqlite_schema", &tables, e) < 0)
		return -1;
	if (app == 0 && tables == 0)
		return schema_make(f, e);
	if (app != APPLICATION_ID)
		return err_set(e, ERR_DATA_LOSS, "%s is a database of another program, no knarr catalog", f->path);
	if (version > CATALOG_SCHEMA)
		return err_set(e, ERR_DATA_LOSS,
			       "catalog %s has schema %d of a newer knarr, this one knows %d; start the newer "
			       "knarrd", f->path, (int)version, CATALOG_SCHEMA);
	return 0;
}

static int is_whole(struct catalog_file *f, struct err *e)
{
	sqlite3_stmt *s = NULL;
	int rc = sqlite3_prepare_v2(f->db, "PRAGMA quick_check(1)", -1, &s, NULL);
	const char *text;

	if (rc == SQLITE_OK)
		rc = sqlite3_step(s);
	text = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 0) : NULL;
	if (text && strcmp(text, "ok") == 0) {
		(void)sqlite3_finalize(s);
		return 0;
	}
	if (text)
		(void)err_set(e, ERR_DATA_LOSS,
			      "catalog %s is damaged: %s; stop knarrd, move it and its -wal file away (a backup "
			      "may be put in its place) and start again", f->path, text);
	else
		(void)catalog_file_err(f, "check", e);
	(void)sqlite3_finalize(s);
	return -1;
}

/* Blocks behind the file's end; where the file system cannot, there are none. */
static void keep_room(int fd, off_t bytes)
{
	(void)fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, bytes);
}

/* The exclusive mode keeps the index of the WAL in memory, without a -shm file. NORMAL never syncs
 * at commit: who wants more syncs the WAL by wal_fd (catalog_change). */
static int db_setup(struct catalog_file *f, struct err *e)
{
	auto_arena a = { 0 };

	if (exec(f, "open", "PRAGMA locking_mode = EXCLUSIVE; PRAGMA cache_size = -256; "
			    "PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY; PRAGMA journal_mode = WAL; "
			    "PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 4194304", e) < 0)
		return -1;
	if (is_whole(f, e) < 0 || schema_check(f, e) < 0)
		return -1;
	/* A write, so that the WAL exists from here on. */
	if (exec(f, "open", "UPDATE meta SET body = body WHERE id = 'schema'", e) < 0)
		return -1;
	f->wal_fd = fd_open(AT_FDCWD, arena_printf(&a, "%s-wal", f->path), O_RDWR, e);
	if (f->wal_fd < 0)
		return -1;
	keep_room(f->wal_fd, WAL_BYTES);
	return 0;
}

/* The WAL and its room outlive the process, for a start on a full disk. */
static void keep_wal(struct catalog_file *f)
{
	int on = 1;

	(void)sqlite3_file_control(f->db, "main", SQLITE_FCNTL_PERSIST_WAL, &on);
}

static int dir_sync(const char *dir, struct err *e)
{
	auto_fd int fd = fd_open(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, e);

	if (fd < 0)
		return -1;
	if (fsync(fd) < 0)
		return err_sys(e, errno, "fsync %s", dir);
	return 0;
}

static int file_open(struct catalog_file *f, struct err *e)
{
	auto_arena a = { 0 };
	const char *base = path_base(f->path);
	char *dir = base == f->path ? arena_strdup(&a, ".") : arena_strndup(&a, f->path, (size_t)(base - f->path));
	auto_fd int made = -1;
	struct stat st;

	if (fs_mkdirs(AT_FDCWD, dir, 0711, e) < 0 || lock_take(f, e) < 0)
		return -1;
	made = fd_create(AT_FDCWD, f->path, O_RDWR | O_CREAT, 0600, e); /* SQLite would make it 0644 */
	if (made < 0)
		return -1;
	if (fstat(made, &st) == 0)
		keep_room(made, st.st_size + SPARE_BYTES);
	fd_close(&made); /* before SQLite has locks on the file, which a close would end */
	if (sqlite3_open_v2(f->path, &f->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
		return catalog_file_err(f, "open", e);
	(void)sqlite3_extended_result_codes(f->db, 0);
	keep_wal(f);
	if (db_setup(f, e) < 0)
		return -1;
	return dir_sync(dir, e);
}

int catalog_file_open(const char *path, struct catalog_file *out, struct err *e)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct catalog_file f = { .path = path, .lock_fd = -1, .wal_fd = -1 };

	(void)pthread_once(&once, sqlite_configure);
	if (file_open(&f, e) < 0) {
		catalog_file_close(&f);
		return -1;
	}
	*out = f;
	return 0;
}

void catalog_file_close(struct catalog_file *f)
{
	/* Else the WAL that is kept would be cut to nothing, and its room given away. */
	if (f->db)
		(void)sqlite3_exec(f->db, "PRAGMA journal_size_limit = -1", NULL, NULL, NULL);
	(void)sqlite3_close(f->db); /* a failed last checkpoint leaves the WAL, which the next open reads */
	f->db = NULL;
	fd_close(&f->wal_fd);
	fd_close(&f->lock_fd);
}
