/* A CNI network configuration (CNI spec 0.1.0 to 1.1.0, section 1): a list of plugins (.conflist) or
 * a single plugin (.conf, .json), which is taken as a list of one. Told apart by the "plugins" key,
 * not by the file's name.
 *
 * A plugin's object is kept as it is written, keys unknown to us and their order included: it is the
 * plugin's, and cni_conf_print() only puts the runtime's own keys in. Pure: nothing blocks,
 * everything lives in the arena. */
#ifndef KNARR_SPEC_CNI_CONF_H
#define KNARR_SPEC_CNI_CONF_H

#include "base/json.h"

enum { CNI_CONF_MAX = 1 << 20, CNI_PLUGINS_MAX = 64 };

struct cni_plugin {
	const char *type;                /* a plain file name: never a path */
	const struct json *capabilities; /* an object of booleans; NULL: none */
	const struct json *doc;
};

struct cni_conf {
	const char *name;
	const char *version; /* of those in cniVersion and cniVersions the newest that we know */
	const struct cni_plugin *plugins;
	size_t nplugins;
	const struct json *doc; /* the whole, as it was */
};

/* ERR_INVALID: no JSON, a version unknown to us, a name that is none, no plugins, a type with '/'. */
int cni_conf_parse(struct arena *a, struct str text, struct cni_conf *out, struct err *e);
/* The same from a parsed document. */
int cni_conf_read(struct arena *a, const struct json *doc, struct cni_conf *out, struct err *e);

/* True where the plugin says `"capabilities": {"NAME": true}`. */
bool cni_plugin_can(const struct cni_plugin *p, const char *capability);

/* What the plugin gets on stdin: its object with the list's name and cniVersion, `prev_result` (NULL:
 * none) and `runtime_config`: the members of this object that its capabilities name (NULL: none).
 * "capabilities" stays in, as the reference library leaves it: meta plugins read it. */
int cni_conf_print(struct buf *b, const struct cni_conf *c, size_t plugin, const struct json *prev_result,
		   const struct json *runtime_config, struct err *e);

/* -1, 0, 1 as a is older than, the same as or newer than b; both must be known. */
bool cni_version_is_known(const char *version);
int cni_version_compare(const char *a, const char *b);

#endif
