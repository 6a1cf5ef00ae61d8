#include "cri/parts.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/utsname.h>

CRI_METHOD(version)
{
	CRI_OUT(VersionResponse);

	(void)ctx;
	(void)c;
	(void)request;
	(void)e;
	out->version = (char *)"0.1.0"; /* of kubelet's API; it has never had another */
	out->runtime_name = (char *)"knarr";
	out->runtime_version = (char *)KNARR_VERSION;
	out->runtime_api_version = (char *)"v1";
	return 0;
}

CRI_METHOD(runtime_config)
{
	CRI_OUT(RuntimeConfigResponse);

	(void)request;
	(void)e;
	out->linux = CRI_NEW(&c->arena, linux_runtime_configuration);
	out->linux->cgroup_driver = cri_of(ctx)->systemd ? RUNTIME__V1__CGROUP_DRIVER__SYSTEMD :
							   RUNTIME__V1__CGROUP_DRIVER__CGROUPFS;
	return 0;
}

int handler_check(const struct rpc_context *ctx, const char *handler, struct err *e)
{
	if (str_is_empty(handler) || strv_has(pods_handlers(cri_of(ctx)->pods), handler))
		return 0;
	return err_set(e, ERR_INVALID, "runtime_handler \"%s\" is not configured", handler);
}

static int prefix_check(struct str text, struct err *e)
{
	struct str rest = text, address = str_cut(&rest, '/');
	unsigned char bytes[sizeof(struct in6_addr)];
	char name[INET6_ADDRSTRLEN];
	uint64_t bits;
	struct err ignored;

	if (address.len < sizeof(name) && rest.p && str_to_u64(rest, &bits, &ignored) == 0) {
		(void)snprintf(name, sizeof(name), "%.*s", STR_ARG(address));
		if ((inet_pton(AF_INET, name, bytes) == 1 && bits <= 32) ||
		    (inet_pton(AF_INET6, name, bytes) == 1 && bits <= 128))
			return 0;
	}
	return err_set(e, ERR_INVALID, "runtime_config.network_config.pod_cidr: \"%.*s\" is no address range",
		       STR_ARG(text));
}

/* kubelet tells the node's range of pod addresses. It is the CNI configuration's business, which the
 * network add-on writes; here it is checked and noted in the log. */
CRI_METHOD(update_runtime_config)
{
	CRI_IN(UpdateRuntimeConfigRequest);
	const char *cidr = in->runtime_config && in->runtime_config->network_config
				   ? text_in(in->runtime_config->network_config->pod_cidr) : NULL;

	(void)ctx;
	(void)c;
	(void)response;
	if (!cidr)
		return 0;
	for (struct str rest = str_of(cidr); rest.p;) {
		if (prefix_check(str_cut(&rest, ','), e) < 0)
			return -1;
	}
	log_info("the node has its range of pod addresses cidr=%s", cidr);
	return 0;
}

static CRI_T(RuntimeCondition) *condition(struct arena *a, const char *type, int rc, const char *reason,
					  const struct err *why)
{
	CRI_T(RuntimeCondition) *out = CRI_NEW(a, runtime_condition);

	out->type = (char *)type;
	out->status = rc == 0;
	if (rc < 0) {
		out->reason = (char *)reason;
		out->message = arena_strdup(a, why->msg);
	}
	return out;
}

/* handlers: NULL where there are none but our own. */
static CRI_T(RuntimeStatus) *conditions(const struct rpc_context *ctx, struct call *c, CRI_T(RuntimeCondition) *handlers)
{
	struct arena *a = &c->arena;
	CRI_T(RuntimeStatus) *out = CRI_NEW(a, runtime_status);
	const struct cri *cri = cri_of(ctx);
	struct err why;
	int rc;

	out->conditions = CRI_NEWV(a, 3);
	rc = pods_runtime_ready(cri->pods, &why);
	out->conditions[out->n_conditions++] = condition(a, "RuntimeReady", rc, "RuntimeNotReady", &why);
	rc = net_status(cri->net, c, ctx->owner == RPC_OWNER_KUBELET ? NET_CONFIGURED : NET_READY, &why);
	out->conditions[out->n_conditions++] = condition(a, "NetworkReady", rc, "NetworkPluginNotReady", &why);
	if (handlers)
		out->conditions[out->n_conditions++] = handlers;
	return out;
}

/* mount_setattr(2) came with 5.12. */
static bool kernel_has_mount_setattr(void)
{
	struct utsname host;
	unsigned major = 0, minor = 0;

	return uname(&host) == 0 && sscanf(host.release, "%5u.%5u", &major, &minor) == 2 &&
	       (major > 5 || (major == 5 && minor >= 12));
}

static CRI_T(RuntimeHandler) *handler_out(struct arena *a, const struct cri *cri, const char *name,
					  const struct pod_handler_view *v)
{
	CRI_T(RuntimeHandler) *h = CRI_NEW(a, runtime_handler);

	h->name = (char *)name;
	h->features = CRI_NEW(a, runtime_handler_features);
	h->features->recursive_read_only_mounts = kernel_has_mount_setattr() && (v->native || v->recursive_readonly);
	h->features->user_namespaces = pods_have_userns(cri->pods) && (v->native || v->user_namespaces);
	return h;
}

static const char *handler_text(struct arena *a, const struct pod_handler_view *v)
{
	if (v->native)
		return "knarr's own";
	if (*v->error)
		return arena_printf(a, "broken: %s", v->error);
	if (!v->features)
		return arena_printf(a, "%s, which does not tell its features", v->path);
	return arena_printf(a, "%s, OCI %s to %s%s%s", v->path, v->version_min, v->version_max,
			    v->recursive_readonly ? ", recursive read-only mounts" : "",
			    v->user_namespaces ? ", user namespaces" : "");
}

/* One that does not work is no fault of the node's: pods of the others run. kubelet ignores conditions that it does not
 * know, people see them. */
static CRI_T(RuntimeCondition) *handlers_condition(struct arena *a, const struct pod_handler_view *all, size_t n)
{
	struct err why = { .kind = ERR_NONE };

	for (size_t i = 0; i < n; i++)
		if (!all[i].native && *all[i].error && why.kind == ERR_NONE)
			(void)err_set(&why, ERR_UNAVAILABLE, "runtime handler %s: %s", all[i].name, all[i].error);
	return condition(a, "RuntimeHandlersReady", why.kind == ERR_NONE ? 0 : -1, "RuntimeHandlerBroken", &why);
}

static int handlers_view(const struct cri *cri, struct call *c, struct pod_handler_view **out, size_t *n, struct err *e)
{
	char *const *names = pods_handlers(cri->pods);

	*n = strv_len(names);
	*out = arena_newn0(&c->arena, struct pod_handler_view, *n);
	for (size_t i = 0; i < *n; i++)
		if (pods_handler_view(cri->pods, c, names[i], &(*out)[i], e) < 0)
			return -1;
	return 0;
}

static void runtime_info(const struct cri *cri, struct arena *a, const struct pod_handler_view *handlers, size_t n,
			 CRI_T(StatusResponse) *out)
{
	struct info info;
	struct err why;

	info_begin(&info, a);
	info_text(&info, "version", KNARR_VERSION);
	info_text(&info, "root", cri->root);
	info_text(&info, "run", cri->run);
	info_text(&info, "cgroupDriver", cri->systemd ? "systemd" : "cgroupfs");
	info_text(&info, "network", net_ready(cri->net, &why) < 0 ? why.msg : "ready");
	for (size_t i = 1; i < n; i++) /* the first is one of the others, by another name */
		info_text(&info, arena_printf(a, "handler %s", handlers[i].name), handler_text(a, &handlers[i]));
	info_text(&info, "defaultHandler", handlers[0].name);
	info_end(&info, &out->base);
}

CRI_METHOD(status)
{
	CRI_IN(StatusRequest);
	CRI_OUT(StatusResponse);
	struct cri *cri = cri_of(ctx);
	struct pod_handler_view *handlers;
	size_t n;

	if (handlers_view(cri, c, &handlers, &n, e) < 0)
		return -1;
	out->status = conditions(ctx, c, n > 2 ? handlers_condition(&c->arena, handlers, n) : NULL);
	out->runtime_handlers = CRI_NEWV(&c->arena, n);
	for (size_t i = 0; i < n; i++)
		out->runtime_handlers[out->n_runtime_handlers++] =
			handler_out(&c->arena, cri, i ? handlers[i].name : "", &handlers[i]);
	out->features = CRI_NEW(&c->arena, runtime_features);
	out->features->supplemental_groups_policy = true;
	out->features->mount_options = true;
	out->features->user_namespaces_host_network = pods_have_userns(cri->pods);
	if (in->verbose)
		runtime_info(cri, &c->arena, handlers, n, out);
	return 0;
}
