/* registries.conf, version 2, as CRI-O, podman and skopeo read it (containers-registries.conf(5)): where the
 * repositories below a prefix are fetched from, mirrors first, which are blocked, and what a name without a
 * registry means. Pure: the caller finds and reads the files.
 *
 * Keys that do not concern a node (credential-helpers apart, see spec/auth_file.h) are taken and left alone;
 * unknown ones are an error. The old version 1 is refused with a sentence. */
#ifndef KNARR_SPEC_REGISTRIES_CONF_H
#define KNARR_SPEC_REGISTRIES_CONF_H

#include "spec/hosts.h"
#include "spec/ref.h"

enum short_name_mode { SHORT_NAMES_PERMISSIVE, SHORT_NAMES_ENFORCING, SHORT_NAMES_DISABLED };

struct registries_conf {
	struct json_vec entries;       /* [[registry]] of all files, opaque */
	char **search;                 /* unqualified-search-registries; NULL: not set */
	enum short_name_mode mode;
	struct json_map aliases;       /* of all files; "" takes an alias back */
};

/* One more file on top of what *c has: an entry replaces the one of the same prefix, an alias the one of the
 * same name, anything else the older value. ERR_INVALID names line and key. */
int registries_conf_read(struct arena *a, struct str text, struct registries_conf *c, struct err *e);

/* Where the repository is fetched from, in order; *found is false where no entry's prefix matches it.
 * ERR_DENIED: the entry is blocked; the error names its prefix. */
int registries_conf_hosts(struct arena *a, const struct registries_conf *c, const struct ref *ref, struct hosts *out,
			  bool *found, struct err *e);

/* The full names that `text` may mean, in the order in which they are to be tried, NULL-terminated: itself where it
 * names a registry; else its alias; else one for each search registry; docker.io's where none is set.
 * ERR_INVALID: two or more, and short-name-mode is "enforcing". */
int registries_conf_names(struct arena *a, const struct registries_conf *c, const char *text, char ***out, struct err *e);

#endif
