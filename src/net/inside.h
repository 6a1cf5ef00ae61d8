/* The inside of the room: what net.c and status.c share. Other rooms include net.h. */
#ifndef KNARR_NET_INSIDE_H
#define KNARR_NET_INSIDE_H

#include "net/attachment.h"
#include "net/conf_dir.h"
#include "net/net.h"
#include "net/plugin.h"

struct net {
	struct arena arena; /* this struct's own memory, freed last */
	struct catalog *catalog;
	struct conf_dir confs;
	struct plugin_place place;
	bool collects;
	struct {
		struct lock lock;     /* guards what follows */
		struct cond changed;
		bool asking;          /* a thread asks the plugins */
		uint64_t of;          /* the configuration that was asked about, as a hash; 0: none yet */
		int64_t until_ns;     /* how long the answer counts (monotonic) */
		bool good;
		struct err said;      /* where not good */
	} status;
	/* GC must not meet an ADD that its list does not have. */
	struct {
		struct lock lock;
		struct cond changed;
		unsigned adding;
		bool collecting;
	} gate;
};

/* The network in use, as net_ready() and net_configured() see it. */
int net_conf_of(struct net *n, struct arena *a, const struct net_request *r, struct cni_conf *conf, struct err *e);
struct plugin_task net_task_of(const struct attachment *t, const struct cni_conf *conf, const char *command,
			       const char *netns);

#endif
