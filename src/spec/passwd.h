/* /etc/passwd and /etc/group of a root file system: bytes of an image, so nothing in them is trusted. Lines
 * that are not whole, comments and numbers past INT32_MAX are passed over. Pure; nothing fails. */
#ifndef KNARR_SPEC_PASSWD_H
#define KNARR_SPEC_PASSWD_H

#include "base/str.h"

struct passwd_entry {              /* pieces of the text */
	struct str name, home;     /* home.len == 0: none */
	uint32_t uid, gid;
};

/* The first entry with the name, or where name is NULL with the uid. */
bool passwd_find(struct str passwd, const struct str *name, uint32_t uid, struct passwd_entry *out);

struct group_entry {
	struct str name, members;  /* members: names with commas between; p == NULL: the line has no such field */
	uint32_t gid;
};

/* Takes entries off the front of *group. False at its end. */
bool group_next(struct str *group, struct group_entry *out);
bool group_find(struct str group, struct str name, uint32_t *gid);
bool group_has_member(const struct group_entry *g, struct str name);

/* An id as the OCI configuration can hold it and as kernels take it; (uid_t)-1 means "no change". -1: it is none. */
int passwd_id(struct str text, uint32_t *out);

#endif
