/* Writes tar archives (POSIX ustar, with pax headers where a name, a size or an attribute does not fit) that depend on
 * nothing but what is put in: no clock, no user names. */
#ifndef KNARR_CLI_TAR_WRITE_H
#define KNARR_CLI_TAR_WRITE_H

#include "base/buf.h"
#include "cli/hash.h"

struct tar_attribute {
	const char *name;
	struct str value;
};

struct tar_member {
	const char *path;    /* relative; a folder's without the '/' at its end */
	char type;           /* '0' file, '1' hard link, '2' symlink, '3' '4' device, '5' folder, '6' fifo */
	const char *link;
	unsigned mode, uid, gid, major, minor;
	int64_t mtime_s;
	int64_t size;        /* of a file: then its bytes follow */
	const struct tar_attribute *attributes;
	size_t nattributes;
};

struct tar_writer {
	int fd;
	struct hash *hash;   /* of all that was written; NULL: not wanted */
	int64_t size;        /* bytes so far */
};

int tar_member_write(struct tar_writer *t, const struct tar_member *m, struct err *e);
/* The bytes of the member before, all of them, padded. ERR_DATA_LOSS: the file has become shorter. */
int tar_file_write(struct tar_writer *t, int fd, int64_t offset, int64_t size, struct err *e);
int tar_text_write(struct tar_writer *t, struct str text, struct err *e);
int tar_end_write(struct tar_writer *t, struct err *e);

#endif
