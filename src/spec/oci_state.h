/* The state of a container as the OCI runtime specification has it (runtime.md, "State"): what hooks
 * read on their stdin and `knarr-oci state` begins with. Pure. */
#ifndef KNARR_SPEC_OCI_STATE_H
#define KNARR_SPEC_OCI_STATE_H

#include "base/json.h"

#define OCI_STATUSES(X) X(CREATING, "creating") X(CREATED, "created") X(RUNNING, "running") \
	X(PAUSED, "paused") X(STOPPED, "stopped")

enum oci_status {
#define X(name, text) OCI_##name,
	OCI_STATUSES(X)
#undef X
	OCI_STATUS_COUNT
};
const char *oci_status_name(enum oci_status s);

struct oci_state {
	char *oci_version, *id, *status;
	int32_t pid;                    /* 0: none any more */
	char *bundle;                   /* absolute */
	struct json_map annotations;
};

int oci_state_read(struct arena *a, struct str text, struct oci_state *out, struct err *e);
int oci_state_write(struct buf *b, const struct oci_state *s, struct err *e);

#endif
