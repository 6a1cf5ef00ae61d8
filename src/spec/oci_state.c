#include "spec/oci_state.h"

static const char *const status_name[OCI_STATUS_COUNT] = {
#define X(name, text) [OCI_##name] = text,
	OCI_STATUSES(X)
#undef X
};

const char *oci_status_name(enum oci_status s)
{
	return (unsigned)s < OCI_STATUS_COUNT ? status_name[s] : "unknown";
}

static const struct json_field state_fields[] = {
	{ "ociVersion", JSON_STR, offsetof(struct oci_state, oci_version), JSON_REQUIRED },
	{ "id", JSON_STR, offsetof(struct oci_state, id), JSON_REQUIRED },
	{ "status", JSON_STR, offsetof(struct oci_state, status), JSON_REQUIRED },
	{ "pid", JSON_I32, offsetof(struct oci_state, pid), 0 },
	{ "bundle", JSON_STR, offsetof(struct oci_state, bundle), JSON_REQUIRED },
	{ "annotations", JSON_MAP, offsetof(struct oci_state, annotations), 0 },
	{ 0 },
};

int oci_state_read(struct arena *a, struct str text, struct oci_state *out, struct err *e)
{
	struct oci_state s = { 0 };

	if (json_load(a, text, state_fields, 0, &s, e) < 0)
		return -1;
	*out = s;
	return 0;
}

int oci_state_write(struct buf *b, const struct oci_state *s, struct err *e)
{
	return json_write(b, state_fields, s, e);
}
