#include "daemon/rooms.h"

#include "base/fs.h"
#include "image/image.h"
#include "net/net.h"
#include "nri/nri.h"
#include "pod/pod.h"
#include "store/catalog.h"

#define DEFAULT_BRIDGE "knarr0"
#define DEFAULT_SUBNET "10.88.0.0/16"

static const char *joined(struct arena *a, char *const *words)
{
	const char *all = words[0] ? words[0] : "";

	for (size_t i = 1; all[0] && words[i]; i++)
		all = arena_printf(a, "%s:%s", all, words[i]);
	return all;
}

static int open_images(struct rooms *r, struct call *c, const struct config *config, struct err *e)
{
	const struct image_settings settings = {
		.root = config->root,
		.run = config->run,
		.libexec = config->libexec,
		.hosts_dir = joined(&c->arena, config->hosts_dirs),
		.registries_conf = config->registries_conf,
		.certs_dirs = config->certs_dirs,
		.pinned = config->pinned_images,
		.pull_idle_ns = config->pull.idle_timeout_ns,
		.parallel_layers = (unsigned)config->pull.parallel_layers,
	};

	return images_open(&settings, r->catalog, &r->images, e);
}

static int open_net(struct rooms *r, struct call *c, const struct config *config, struct err *e)
{
	const struct net_settings settings = {
		.conf_dir = config->cni.conf_dir,
		.bin_dirs = config->cni.bin_dirs,
		.default_conflist = config->cni.default_network ?
				    net_default_conflist(&c->arena, DEFAULT_BRIDGE, DEFAULT_SUBNET) : NULL,
		.collects = config->cni.gc, .plugin_timeout_ns = config->cni.timeout_ns,
	};

	return net_open(&settings, r->catalog, &r->net, e);
}

static const struct pod_handler *handlers_of(struct arena *a, const struct config *config)
{
	struct pod_handler *all = arena_newn0(a, struct pod_handler, config->nhandlers + 1);

	for (size_t i = 0; i < config->nhandlers; i++)
		all[i] = (struct pod_handler){ config->handlers[i].name, config->handlers[i].path,
					       config->handlers[i].args, config->handlers[i].root };
	return all;
}

static int open_pods(struct rooms *r, struct call *c, const struct config *config, struct err *e)
{
	const struct pod_settings settings = {
		.root = config->root,
		.run = config->run,
		.netns_dir = config->netns_dir,
		.monitor_path = path_join(&c->arena, config->libexec, "knarr-pod"),
		.monitor_cgroup = config->cgroup.monitor_parent,
		.cgroup_parent = config->cgroup.pod_parent,
		.systemd = config->cgroup.driver == CONFIG_SYSTEMD,
		.crio_names = config->cadvisor_socket != NULL,
		.cdi_dirs = config->cdi_dirs, .criu = config->criu, .seccomp_dir = config->seccomp_dir,
		.resolv_conf = config->resolv_conf,
		.handlers = handlers_of(&c->arena, config),
		.nhandlers = config->nhandlers,
		.default_handler = config->default_handler,
		.create_limit_ns = config->limits.create_ns,
		.collect_limit_ns = config->limits.collect_ns,
		.shm_bytes = (uint64_t)config->shm_bytes,
	};

	return pods_open(&settings, r->catalog, r->images, r->net, &r->pods, e);
}

static int open_nri(struct rooms *r, const struct config *config, struct err *e)
{
	const struct nri_settings settings = {
		.socket = config->nri.connections ? config->nri.socket : NULL,
		.plugin_dir = config->nri.plugin_dir,
		.config_dir = config->nri.config_dir,
		.registration_ns = config->nri.registration_ns,
		.request_ns = config->nri.request_ns,
	};

	return config->nri.enable ? nri_open(&settings, r->pods, &r->nri, e) : 0;
}

struct stream_settings rooms_stream_settings(const struct config *config)
{
	return (struct stream_settings){
		.address = config->stream.address,
		.cert = config->stream.cert,
		.key = config->stream.key,
		.client_ca = config->stream.client_ca,
		.token_ns = config->stream.token_ns,
		.idle_ns = config->stream.idle_ns,
	};
}

static int open_streams(struct rooms *r, const struct config *config, struct err *e)
{
	const struct stream_settings settings = rooms_stream_settings(config);

	return streams_open(&settings, r->pods, &r->streams, e);
}

int rooms_open(struct rooms *r, struct call *c, const struct config *config, struct err *e)
{
	const char *catalog = path_join(&c->arena, config->root, "catalog.db");

	*r = (struct rooms){ 0 };
	if (catalog_open(catalog, &r->catalog, e) < 0 || open_images(r, c, config, e) < 0 ||
	    open_net(r, c, config, e) < 0 || open_pods(r, c, config, e) < 0 ||
	    pods_wait_ready(r->pods, c, e) < 0 || open_nri(r, config, e) < 0 || open_streams(r, config, e) < 0) {
		rooms_close(r);
		return -1;
	}
	r->cri = (struct cri){ .pods = r->pods, .images = r->images, .net = r->net, .streams = r->streams,
			       .root = config->root, .run = config->run,
			       .systemd = config->cgroup.driver == CONFIG_SYSTEMD };
	return 0;
}

void rooms_close(struct rooms *r)
{
	streams_close(r->streams);
	nri_stop(r->nri);
	if (r->pods)
		pods_close(r->pods);
	nri_free(r->nri);
	if (r->net)
		net_close(r->net);
	if (r->images)
		images_close(r->images);
	if (r->catalog)
		catalog_close(r->catalog);
	*r = (struct rooms){ 0 };
}
