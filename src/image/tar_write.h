/* Writes tar archives to a fd: ustar (POSIX.1-2001), with a pax header in front of an entry whose path, link, size, owner or
 * xattrs do not fit there. tar.h reads them. Blocks as the fd does. */
#ifndef KNARR_IMAGE_TAR_WRITE_H
#define KNARR_IMAGE_TAR_WRITE_H

#include "image/tar.h"

/* The entry's header; a FILE's data (e->size bytes) follows with tar_write_data() or tar_write_from(). */
int tar_write_entry(int fd, const struct tar_entry *t, struct err *e);
/* All of a FILE's data and its padding. */
int tar_write_data(int fd, const void *bytes, size_t n, struct err *e);
/* The same, `size` bytes from another fd. ERR_DATA_LOSS: it ends earlier. */
int tar_write_from(int fd, int from, uint64_t size, struct err *e);
/* A FILE with these bytes, root's, mode 0600. */
int tar_write_text(int fd, const char *path, struct str text, struct err *e);
int tar_write_end(int fd, struct err *e);

#endif
