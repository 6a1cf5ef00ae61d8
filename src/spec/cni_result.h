/* What a CNI plugin prints: the result of ADD (CNI spec, section 5; 0.1.0 to 1.1.0), or an error.
 * Pure: nothing blocks, everything lives in the arena. */
#ifndef KNARR_SPEC_CNI_RESULT_H
#define KNARR_SPEC_CNI_RESULT_H

#include "base/json.h"

enum { CNI_RESULT_MAX = 1 << 20 };

struct cni_interface {
	char *name, *mac, *sandbox; /* mac, sandbox: NULL where absent; no sandbox: on the host */
};

struct cni_ip {
	const char *address; /* without the prefix length */
	bool is_v6;
	int interface; /* index, -1: not said */
};

struct cni_result {
	const struct cni_interface *interfaces;
	size_t ninterfaces;
	const struct cni_ip *ips; /* every address is one */
	size_t nips;
	const struct json *doc; /* as printed: the next plugin's prevResult */
};

/* `version` is the configuration's, for results that do not say theirs. ERR_INVALID names what is
 * wrong. */
int cni_result_parse(struct arena *a, struct str text, const char *version, struct cni_result *out,
		     struct err *e);
int cni_result_read(struct arena *a, const struct json *doc, const char *version, struct cni_result *out,
		    struct err *e);

/* The pod's addresses: those of the interface inside the sandbox by this name (all, where no address
 * says its interface); IPv4 first, else in the result's order. NULL-terminated. */
char **cni_result_ips_of(struct arena *a, const struct cni_result *r, const char *interface);
/* The interface inside a sandbox by this name; NULL: none. */
const struct cni_interface *cni_result_interface(const struct cni_result *r, const char *name);

enum { CNI_ERROR_TRY_AGAIN = 11, CNI_ERROR_NOT_AVAILABLE = 50, CNI_ERROR_LIMITED = 51 };

struct cni_error {
	uint32_t code;
	char *msg, *details; /* "" where absent */
};

/* ERR_INVALID: it is no CNI error (no JSON, or neither a code nor a message). */
int cni_error_parse(struct arena *a, struct str text, struct cni_error *out, struct err *e);

#endif
