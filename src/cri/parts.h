/* What the files of src/cri share: names for protobuf-c's types, conversions, and the methods. */
#ifndef KNARR_CRI_PARTS_H
#define KNARR_CRI_PARTS_H

#include "cri/cri.h"
#include "pod/metrics.h"
#include "cri.pb-c.h"

/* CRI_T(PodSandbox) is the struct; CRI_NEW(a, pod_sandbox) makes one, zeroed, of its type. */
#define CRI_T(name) Runtime__V1__##name
#define CRI_NEW(a, name) message_new(a, &runtime__v1__##name##__descriptor)
void *message_new(struct arena *a, const ProtobufCMessageDescriptor *type);
/* An array for a repeated field: n pointers. */
#define CRI_NEWV(a, n) ((void *)arena_newn0(a, void *, (n) + 1))

/* A method's function: `static int version(CRI_ARGS)`, then its two messages by their types. */
#define CRI_METHOD(name)                                                              \
	int cri_##name(struct rpc_context *ctx, struct call *c, const ProtobufCMessage *request, \
		       ProtobufCMessage *response, struct err *e)
#define CRI_IN(type) const CRI_T(type) *in = (const CRI_T(type) *)request
#define CRI_OUT(type) CRI_T(type) *out = (CRI_T(type) *)response

static inline struct cri *cri_of(const struct rpc_context *ctx)
{
	return ctx->app;
}
static inline enum pod_owner owner_of(const struct rpc_context *ctx)
{
	return ctx->owner == RPC_OWNER_USER ? POD_OWNER_USER : POD_OWNER_KUBELET;
}

/* Texts: proto3 has no absence, so "" counts as not given. */
static inline char *text_in(const char *s)
{
	return s && *s ? (char *)s : NULL;
}
static inline char *text_out(const char *s)
{
	return s ? (char *)s : (char *)"";
}
/* A required text: ERR_INVALID "FIELD is empty". */
int require(const char *text, const char *field, struct err *e);

/* --- what an answer holds ------------------------------------------------------------------------------- */

/* Views that live as long as the call: messages point into them until they are packed. */
struct pod_views *hold_pods(struct call *c);
struct container_views *hold_containers(struct call *c);
struct container_stats_list *hold_container_stats(struct call *c);
struct pod_stats_list *hold_pod_stats(struct call *c);
struct pod_metrics_list *hold_pod_metrics(struct call *c);

/* --- requests to wishes (convert_in.c, convert_container.c) ------------------------------------------ */

/* Every map entry that protoc-c makes of map<string, string> begins like this. */
struct map_entry {
	ProtobufCMessage base;
	char *key, *value;
};
struct json_map map_in(struct arena *a, size_t n, void *entries);

int pod_config_in(struct arena *a, const CRI_T(PodSandboxConfig) *in, const char *handler, struct pod_config *out,
		  struct err *e);
int container_config_in(struct arena *a, const CRI_T(ContainerConfig) *in, struct container_config *out,
			struct err *e);
struct config_resources *resources_in(struct arena *a, const CRI_T(LinuxContainerResources) *in);
int namespaces_in(struct arena *a, const CRI_T(NamespaceOption) *in, struct config_namespaces *out, struct err *e);
struct config_selinux *selinux_in(struct arena *a, const CRI_T(SELinuxOption) *in);
/* `path` is the deprecated text, used where there is no message. */
int profile_in(struct arena *a, const CRI_T(SecurityProfile) *in, const char *path, const char *field,
	       struct config_profile **out, struct err *e);
struct json_vec idmaps_in(struct arena *a, size_t n, CRI_T(IDMapping) *const *in);
int64_t *int64_in(struct arena *a, const CRI_T(Int64Value) *in);
struct json_vec groups_in(struct arena *a, size_t n, const int64_t *groups);
/* protobuf-c's counted array as a strv; NULL for none. */
char **strv_in(struct arena *a, size_t n, char *const *texts);

struct pod_filter_in {
	struct pod_filter filter;
	bool ready;
	struct json_map labels;
};
const struct pod_filter *pod_filter_in(struct arena *a, const CRI_T(PodSandboxFilter) *in);
const struct container_filter *container_filter_in(struct arena *a, const CRI_T(ContainerFilter) *in);

/* CRI counts signals in an order of its own: by number both ways, 0 for none. */
int signal_in(CRI_T(Signal) s);
CRI_T(Signal) signal_out(int number);

/* --- views to messages (convert_out.c, stats.c) ------------------------------------------------------ */

/* Entries of this message's map field "labels", "annotations", "info"…: */
void *map_out(struct arena *a, const ProtobufCMessage *m, const char *field, const struct json_map *map);
CRI_T(PodSandbox) *pod_out(struct arena *a, const struct pod_view *v);
CRI_T(PodSandboxStatus) *pod_status_out(struct arena *a, const struct pod_view *v);
CRI_T(Container) *container_out(struct arena *a, const struct container_view *v);
/* Asks the kernel for the resources, and the images for the name. */
CRI_T(ContainerStatus) *container_status_out(const struct rpc_context *ctx, struct arena *a,
					     const struct container_view *v);
CRI_T(LinuxContainerResources) *resources_out(struct arena *a, const struct config_resources *r);
CRI_T(PodSandboxMetadata) *pod_metadata_out(struct arena *a, const struct pod_config *p);
CRI_T(ContainerMetadata) *container_metadata_out(struct arena *a, const struct container_config *c);
CRI_T(UInt64Value) *uint64_out(struct arena *a, uint64_t n);

/* A verbose answer's one entry: "info", a JSON text. */
struct info {
	struct arena *a;
	struct buf text;
	bool any;
};
void info_begin(struct info *i, struct arena *a);
void info_text(struct info *i, const char *key, const char *value); /* NULL: left out */
void info_number(struct info *i, const char *key, int64_t value);
void info_bool(struct info *i, const char *key, bool value);
void info_json(struct info *i, const char *key, struct str json);   /* a document; empty: left out */
void info_list(struct info *i, const char *key, char *const *values);
/* Sets m's map field "info"; releases i. */
void info_end(struct info *i, ProtobufCMessage *m);

/* --- streams of lists -------------------------------------------------------------------------------- */

/* Sends the items in messages of a megabyte or so: `field` is the response's repeated one. An empty list is
 * an empty stream. */
int send_in_pieces(struct rpc_context *ctx, struct call *c, const char *field, void *items, size_t n,
		   struct err *e);

/* The repeated message field of a message. */
struct repeated {
	size_t *n;
	void **items;
};
struct repeated message_repeated(ProtobufCMessage *m, const char *field);

/* ERR_INVALID for a runtime handler that is not there. */
int handler_check(const struct rpc_context *ctx, const char *handler, struct err *e);

/* --- what goes to the caller's own socket, a name in the abstract namespace (sessions.c) ------------------ */

/* A connection to it, the caller's to close. */
int socket_of_caller(const char *name, int *out, struct err *e);
/* One fd with its letter; it stays ours. */
int hand_over_one(const char *name, char letter, int fd, struct err *e);

#define CRI_METHODS(X) \
	X(version) X(run_pod) X(stop_pod) X(remove_pod) X(pod_status) X(list_pods) X(stream_pods) \
	X(create_container) X(start_container) X(stop_container) X(remove_container) X(list_containers) \
	X(stream_containers) X(container_status) X(update_container) X(reopen_log) X(exec_sync) \
	X(exec) X(attach) X(port_forward) X(checkpoint_container) \
	X(container_stats) X(list_container_stats) X(stream_container_stats) X(pod_stats) X(list_pod_stats) \
	X(stream_pod_stats) X(metric_descriptors) X(list_metrics) X(stream_metrics) X(update_runtime_config) X(status) \
	X(events) X(runtime_config) X(update_pod) \
	X(later) X(list_images) X(stream_images) X(image_status) X(pull_image) X(remove_image) X(image_fs_info) \
	X(pull_with_progress) X(tag_image) X(wait_container) X(kill_container) X(open_exec) X(open_attach) X(open_port) \
	X(image_content) X(open_blob) X(load_image)
#define X(name) CRI_METHOD(name);
CRI_METHODS(X)
#undef X

#endif
