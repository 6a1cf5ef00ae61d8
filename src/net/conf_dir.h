/* The folder of CNI configurations: which file is the network now. No watch and no thread: each use
 * looks at the files' names, sizes and times (some tens of microseconds for the few that there are),
 * through symbolic links, and reads again only when one has changed. Safe in every thread. */
#ifndef KNARR_NET_CONF_DIR_H
#define KNARR_NET_CONF_DIR_H

#include "base/thread.h"
#include "spec/cni_conf.h"

#define CONF_DIR_DEFAULT "the built-in default" /* the source of the fallback */

struct conf_dir {
	const char *path, *fallback; /* must live as long as this; fallback: a conflist's text or NULL */
	struct lock lock;            /* guards what follows */
	uint64_t signature;          /* of the folder as last read */
	bool settled;                /* no file had changed just before it was read */
	struct arena arena;          /* of these: */
	struct str text;             /* the chosen file's, p NULL: none is valid */
	const char *source;          /* its path */
	struct err why_none;
};

void conf_dir_init(struct conf_dir *d, const char *path, const char *fallback);
void conf_dir_end(struct conf_dir *d);

/* The network's configuration now, into the arena; *source (may be NULL) names its file. A file that
 * is not valid is passed over, and logged once for each time that it changes.
 * ERR_UNAVAILABLE: there is none; the text says why. */
int conf_dir_load(struct conf_dir *d, struct arena *a, struct cni_conf *out, const char **source, struct err *e);

#endif
