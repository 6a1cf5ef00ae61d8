/* The pod's network: runs CNI plugins (CNI spec 0.3.0 to 1.1.0) for a pod and remembers the result.
 *
 * Configuration comes from a folder of .conflist, .conf and .json files, looked at whenever it is
 * needed (net/conf_dir.h); the first valid one
 * in the order of names is the network. What was added is recorded in the catalog before ADD, with
 * the configuration it was added with, and forgotten only when DEL succeeded: a plugin's DEL gets
 * the same configuration as its ADD, whatever has become of the folder. */
#ifndef KNARR_NET_NET_H
#define KNARR_NET_NET_H

#include "base/call.h"
#include "store/catalog.h"

struct net;

struct net_settings {
	const char *conf_dir;        /* "/etc/cni/net.d" */
	char *const *bin_dirs;       /* "/opt/cni/bin", "/usr/lib/cni" */
	const char *default_conflist; /* used while the folder has no valid file; NULL: none */
	bool collects;               /* net_collect() does its work; the network is no other's */
	int64_t plugin_timeout_ns;   /* a plugin that runs longer is killed with its session */
};

/* Keeps no pointer into the settings. Ends what plugins of a killed knarrd are still running. */
int net_open(const struct net_settings *settings, struct catalog *catalog, struct net **out, struct err *e);
void net_close(struct net *n);

struct net_port {
	const char *protocol;        /* "tcp", "udp", "sctp" */
	uint16_t container_port, host_port;
	const char *host_ip;         /* "" : any */
};

struct net_request {
	const char *pod_id;
	const char *netns_path;      /* "/run/netns/knarr-ID"; for net_del may be NULL: the namespace is gone */
	const char *namespace_, *name, *uid; /* the pod's, for CNI_ARGS K8S_POD_* */
	const struct net_port *ports;
	size_t nports;
	uint64_t ingress_bits, egress_bits; /* per second; 0: unlimited (kubernetes.io/ingress-bandwidth) */
	bool configured_only;        /* the built-in default will not do: kubelet's pods wait for the cluster's own */
	const char *cgroup_path;     /* the pod's cgroup parent, for the cgroupPath capability; may be NULL */
	char *const *dns_servers, *const *dns_searches, *const *dns_options;
};

struct net_result {
	char **ips;                  /* without prefix length, the pod's primary address first */
	char *interface, *mac;       /* "eth0" */
	struct str cni_result;       /* the last plugin's result, JSON */
};

/* CNI ADD of every plugin of the list, in order; eth0. ERR_UNAVAILABLE: no network is configured;
 * ERR_EXISTS: the pod has one recorded (net_del first); else as net/plugin.h says. On failure DEL has been run for what was
 * added (a DEL that fails leaves the record, for net_del to try again). Blocks as long as the
 * plugins do, within the call and plugin_timeout. */
int net_add(struct net *n, struct call *c, const struct net_request *r, struct net_result *out, struct err *e);
/* CNI DEL in reverse order, up to the first that fails. Nothing recorded for the pod is success. One
 * pod's net_add and net_del must not run at the same time: the pod's state sees to that. */
int net_del(struct net *n, struct call *c, const struct net_request *r, struct err *e);
/* What net_add() gave, after a restart. ERR_NOT_FOUND: the pod has no network. */
int net_result_of(struct net *n, struct arena *a, const char *pod_id, struct net_result *out, struct err *e);

/* NetworkReady: 0 while a valid network is configured (and its plugins exist), else -1 with a
 * sentence for the node's condition. Does not block. */
int net_ready(struct net *n, struct err *e);
/* The same, where the built-in default does not count: a node that joins a cluster must not be Ready
 * before the cluster's network has come. */
int net_configured(struct net *n, struct err *e);

/* net_ready() or net_configured(), and where the configuration is of CNI 1.1.0 what its plugins answer to STATUS: asked
 * at most every ten seconds (two after a refusal), for five at most; several callers wait for one answer. */
enum net_scope { NET_READY, NET_CONFIGURED };
int net_status(struct net *n, struct call *c, enum net_scope scope, struct err *e);
/* CNI CHECK (0.4.0 and newer, unless disableCheck): 0 where the pod's network is as ADD made it. Nothing recorded for
 * the pod is success. ERR_STATE: it is being made or undone. Blocks as long as the plugins do. */
int net_check(struct net *n, struct call *c, const char *pod_id, const char *netns_path, struct err *e);
/* CNI GC (1.1.0, unless disableGC): the plugins of the network in use may let go of what is no pod's that is recorded
 * here. Once at start, when the networks of pods that are gone have been undone. */
int net_collect(struct net *n, struct call *c, struct err *e);

/* The pod IDs that still have an attachment recorded (recovery ends those of unknown pods),
 * NULL-terminated. */
int net_pods(struct net *n, struct arena *a, char ***out, struct err *e);

/* A configuration for a node without any: a bridge with addresses of `subnet` ("10.88.0.0/16") and
 * port mappings. */
char *net_default_conflist(struct arena *a, const char *bridge, const char *subnet);

#endif
