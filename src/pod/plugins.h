/* Who watches and changes pods and containers from outside knarrd: NRI's plugins (src/nri). The model calls at each
 * moment of a life; it knows nothing of plugins' protocol, and they know its views only.
 *
 * Each function may block as long as plugins take, which have timeouts; none is called under a lock. For one container
 * the moments come one after the other, in their order. */
#ifndef KNARR_POD_PLUGINS_H
#define KNARR_POD_PLUGINS_H

#include "pod/pod.h"
#include "spec/oci_config.h"

/* The numbers are those of NRI's Event. */
enum pod_moment {
	POD_MOMENT_RUN = 1,             /* has all it needs and is not listed yet; may be refused */
	POD_MOMENT_STOPPED = 2,
	POD_MOMENT_REMOVE = 3,
	CONTAINER_MOMENT_CREATE = 4,    /* may be refused */
	CONTAINER_MOMENT_CREATED = 5,
	CONTAINER_MOMENT_START = 6,     /* may be refused */
	CONTAINER_MOMENT_STARTED = 7,
	CONTAINER_MOMENT_UPDATE = 8,    /* may be refused */
	CONTAINER_MOMENT_UPDATED = 9,
	CONTAINER_MOMENT_STOPPED = 10,
	CONTAINER_MOMENT_REMOVE = 11,
	POD_MOMENT_UPDATE = 12,         /* may be refused */
	POD_MOMENT_UPDATED = 13,
};

/* Whether plugins have heard of an object: one that is being made is not listed, but whoever joins must be told of it
 * if the others have been. */
enum plugin_knowledge { PLUGINS_UNTOLD, PLUGINS_TOLD, PLUGINS_GONE };

/* What plugins want of a container that is being created. */
struct pod_adjustment {
	struct oci_config *config;   /* changed in place; its memory is the arena's */
	char **cdi_devices;          /* out: to be injected as if the caller had wished for them */
	void *wishes;                /* out: for `readjust` */
};

struct pod_plugins {
	void *ctx;
	/* No plugin is there: what need not be told can be left out. */
	bool (*idle)(void *ctx);
	/* overhead and resources: for POD_MOMENT_UPDATE, else NULL. An error is a refusal. */
	int (*pod)(void *ctx, enum pod_moment m, const struct pod_view *p, const struct config_resources *overhead,
		   const struct config_resources *resources, struct err *e);
	int (*container)(void *ctx, enum pod_moment m, const struct pod_view *p, const struct container_view *k,
			 struct err *e);
	int (*adjust)(void *ctx, struct arena *a, const struct pod_view *p, const struct container_view *k,
		      struct pod_adjustment *io, struct err *e);
	/* The same wishes on a config.json that was built anew; nobody is asked again. */
	int (*readjust)(void *ctx, struct arena *a, const struct pod_adjustment *wishes, struct oci_config *config,
			struct err *e);
	/* An update under way, of which plugins may change r. */
	int (*update)(void *ctx, struct arena *a, const struct pod_view *p, const struct container_view *k,
		      struct oci_resources *r, struct err *e);
};

/* Before anything is asked of the pods. They live as long as the pods; NULL: none. */
void pods_set_plugins(struct pods *ps, const struct pod_plugins *plugins);

/* What a plugin that joins is told: all that is listed or that others have been told of, of every owner. */
void pods_snapshot(struct pods *ps, struct arena *a, struct pod_views *pods, struct container_views *containers);
enum plugin_knowledge pod_knowledge_set(const struct pod_view *p, enum plugin_knowledge to); /* returns the old one */
enum plugin_knowledge container_knowledge_set(const struct container_view *k, enum plugin_knowledge to);

/* config.json of a container that is there. */
int container_view_config(const struct container_view *k, struct arena *a, struct oci_config *out, struct err *e);
const char *container_view_cgroup(const struct container_view *k);

/* A change of limits that a plugin asks for, of any owner's container. ERR_NOT_FOUND, ERR_STATE. */
int pods_update_by_plugin(struct pods *ps, struct call *c, const char *id, const struct oci_resources *r,
			  struct err *e);

#endif
