/* The catalog's file, below the records: SQLite opened as one process's own, its lock, its schema.
 * Only catalog.c uses this. */
#ifndef KNARR_STORE_CATALOG_FILE_H
#define KNARR_STORE_CATALOG_FILE_H

#include "store/catalog.h"

#include <sqlite3.h>

enum { CATALOG_SCHEMA = 1 };

struct catalog_file {
	const char *path;
	int lock_fd; /* flocked while open; PATH.lock holds the owner's pid as text */
	int wal_fd;  /* for fdatasync: durability on demand, outside SQLite */
	sqlite3 *db;
};

/* path must live as long as the file is open. */
int catalog_file_open(const char *path, struct catalog_file *out, struct err *e);
void catalog_file_close(struct catalog_file *f);

/* What SQLite's last call on f said, as an error that names the file and what to do. */
int catalog_file_err(const struct catalog_file *f, const char *what, struct err *e);

const char *catalog_table_name(enum catalog_table t);

#endif
