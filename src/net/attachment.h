/* The record of one pod's attachment to one network (docs/formats/attachment.md): written before
 * ADD, so that whatever happens DEL can be run with what ADD was run with. */
#ifndef KNARR_NET_ATTACHMENT_H
#define KNARR_NET_ATTACHMENT_H

#include "base/json.h"
#include "store/catalog.h"

enum { ATTACHMENT_VERSION = 1, ATTACHMENT_MAX = 8 << 20 };

/* "adding" and "deleting": plugins may be running; "added": the result is complete. */
#define ATTACHMENT_ADDING "adding"
#define ATTACHMENT_ADDED "added"
#define ATTACHMENT_DELETING "deleting"

struct attachment {
	uint32_t version;
	char *state, *pod_id, *network, *interface;
	char *args;                       /* CNI_ARGS */
	const struct json *config;        /* the whole configuration, as it was at ADD */
	const struct json *capabilities;  /* the capability arguments */
	const struct json *result;        /* the last plugin's; NULL until all have succeeded */
};

int attachment_put(struct catalog *c, const struct attachment *t, struct err *e);
int attachment_delete(struct catalog *c, const struct attachment *t, struct err *e);

struct attachments {
	struct attachment *p;
	size_t n;
};
/* Those of one pod, or of all (pod_id NULL), into the arena. ERR_DATA_LOSS: a record that cannot be
 * read, by its id. */
int attachments_of(struct catalog *c, struct arena *a, const char *pod_id, struct attachments *out,
		   struct err *e);

#endif
