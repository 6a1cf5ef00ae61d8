/* What the files of src/nri share. */
#ifndef KNARR_NRI_PARTS_H
#define KNARR_NRI_PARTS_H

#include "base/list.h"
#include "base/map.h"
#include "base/proc.h"
#include "base/thread.h"
#include "nri.pb-c.h"
#include "nri/nri.h"
#include "pod/plugins.h"
#include "wire/ttrpc.h"

#include <stdatomic.h>

/* NRI_T(PodSandbox) is the struct; NRI_NEW(a, pod_sandbox) makes one. */
#define NRI_T(name) Nri__Pkg__Api__V1alpha1__##name
#define NRI_D(name) nri__pkg__api__v1alpha1__##name##__descriptor
#define NRI_NEW(a, name) nri_message_new(a, &NRI_D(name))
void *nri_message_new(struct arena *a, const ProtobufCMessageDescriptor *type);
/* An array for a repeated field: n pointers. */
#define NRI_NEWV(a, n) ((void *)arena_newn0(a, void *, (n) + 1))

struct nri {
	struct nri_settings settings;
	struct pods *pods;
	struct pod_plugins hooks;
	struct lock lock;        /* the list, the counters */
	struct cond changed;
	struct list plugins;     /* of struct plugin, in_plugins; those that hear, in the order of their indices */
	struct list all;         /* every plugin whose threads run */
	unsigned active, running;
	bool closing;
	int listen_fd, wake_fd;
	pthread_t listener;
	bool listener_runs;
};

/* --- plugin.c: one plugin's connection ---------------------------------------------------------------------- */

struct plugin_update {           /* an UpdateContainers of the plugin's, to be answered */
	struct list item;
	uint32_t stream;
	struct buf payload;
};

struct plugin {
	struct nri *nri;
	atomic_uint refs;
	struct list in_plugins, in_all;
	struct lock lock;        /* all below */
	struct cond changed;
	int fd;
	char *name, *idx;        /* set once, at the registration or the start */
	char *title;             /* "10-logger", for errors and logs */
	char *config;
	uint32_t events;         /* set before it is in the list */
	bool fail_request, keep_connected; /* its failure policy */
	bool old;                /* knows StateChange and not the calls that came later */
	bool launched, registered, closed;
	bool heard, lived;       /* under nri->lock: it is in the list; it has joined, or failed to */
	struct proc proc;        /* pidfd -1: not ours */
	bool turn;               /* somebody asks it; the others wait */
	bool writing;
	uint32_t next_stream, waits_for; /* waits_for: 0: nothing */
	bool answered;
	struct err answer_error; /* kind ERR_NONE: fine */
	struct buf answer;
	struct list updates;
	unsigned nupdates;
	struct ttrpc_reader reader; /* the reading thread's */
};

struct plugin *plugin_ref(struct plugin *p);
void plugin_unref(struct plugin *p);
/* Takes the fd and begins the plugin's threads, with it registered as `name` where the program is ours. */
struct plugin_start {
	int fd;
	const char *idx, *name, *config; /* of a program of ours; else NULL */
	struct proc proc;
};
int plugin_start(struct nri *n, const struct plugin_start *s, struct err *e);
/* Ends the connection; the reason is logged. */
void plugin_close(struct plugin *p, const char *why);
bool plugin_is_closed(struct plugin *p);

void plugin_turn_take(struct plugin *p);
void plugin_turn_give(struct plugin *p);
/* Asks, with the turn taken. 0: answered, *out in the arena; 1: it has not answered, and its policy is to go on without;
 * -1: it refuses, has not answered and its policy is to fail, or (ERR_EXHAUSTED) the question is too large. */
struct plugin_question {
	const char *method;
	ProtobufCMessage *request;
	const ProtobufCMessageDescriptor *answer;
};
int plugin_ask(struct plugin *p, struct arena *a, const struct plugin_question *q, ProtobufCMessage **out,
	       struct err *e);
static inline bool plugin_wants(const struct plugin *p, unsigned event)
{
	return p->events & BIT(event - 1);
}

/* --- join.c: how a plugin becomes one -------------------------------------------------------------------------- */

/* Registration, configuration, synchronisation; then serves its updates until its end. In a thread of its own. */
void plugin_live(struct plugin *p);
int nri_launch(struct nri *n, struct err *e); /* the programs of the folder */
int nri_listen(struct nri *n, struct err *e);

/* --- describe.c: views to messages ------------------------------------------------------------------------------- */

NRI_T(PodSandbox) *describe_pod(struct arena *a, const struct pod_view *p);
NRI_T(Container) *describe_container(struct arena *a, const struct container_view *k, const struct oci_config *c);
NRI_T(LinuxResources) *describe_resources(struct arena *a, const struct oci_resources *r);
NRI_T(LinuxResources) *describe_wished(struct arena *a, const struct config_resources *r);
/* The same for a container whose config.json has to be read; one that has none is described without. */
NRI_T(Container) *describe_existing(struct arena *a, const struct container_view *k);

/* --- adjust.c, resources.c: messages to config.json --------------------------------------------------------------- */

/* Who has wished what of one container: a second one is refused. */
struct claims {
	struct arena *a;
	struct map map;          /* "memory.limit", "env HOME" -> the plugin's title */
};
/* ERR_STATE names both. */
int claim(struct claims *c, const char *plugin, const char *what, const char *key, struct err *e);
void claim_clear(struct claims *c, const char *what, const char *key);

/* One plugin's wishes; claims NULL: they have been claimed before. */
struct adjuster {
	struct arena *a;
	struct claims *claims;
	const char *plugin;
	struct oci_config *config;
	char **cdi_devices;      /* grows */
};
int adjust_apply(struct adjuster *j, const NRI_T(ContainerAdjustment) *w, struct err *e);
/* `where`: before the claims' names, for those of another container. */
int adjust_resources(struct arena *a, struct claims *claims, const char *plugin, const char *where,
		     const NRI_T(LinuxResources) *w, struct oci_resources *r, struct err *e);

/* --- events.c: the moments ------------------------------------------------------------------------------------------ */

void nri_hooks_set(struct nri *n);
/* Makes the changes of other containers that a plugin wants; those that could not be made are counted into `failed`
 * (may be NULL), else the first that is not to be ignored is the error. */
struct updates {
	size_t n;
	NRI_T(ContainerUpdate) **v;
};
int nri_update_others(struct plugin *p, struct arena *a, const struct updates *wished, struct updates *failed,
		      struct err *e);
/* Every plugin there is, with references, in the arena. Call under the lock. */
struct plugins {
	size_t n;
	struct plugin **v;
};
struct plugins nri_plugins_locked(struct nri *n, struct arena *a);
void nri_plugins_release(struct plugins *v);
#define auto_plugins AUTO(nri_plugins_release) struct plugins

#endif
