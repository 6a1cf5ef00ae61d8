/* The CRI: one short function per RPC, between kubelet's messages and the model (pod/pod.h,
 * image/image.h). This is the only room that knows both.
 *
 * Bad requests are ERR_INVALID and name the field as the protocol does. What a later release brings
 * answers ERR_UNIMPLEMENTED and says so. Nothing here logs a request: environments and credentials
 * are in them. */
#ifndef KNARR_CRI_CRI_H
#define KNARR_CRI_CRI_H

#include "image/image.h"
#include "net/net.h"
#include "pod/pod.h"
#include "stream/stream.h"
#include "wire/rpc.h"

/* What the methods get as ctx->app; all of it must outlive the server. */
struct cri {
	struct pods *pods;
	struct images *images;
	struct net *net;
	struct streams *streams;
	const char *root, *run;      /* for Status with verbose */
	bool systemd;                /* the cgroup driver, which kubelet takes over */
};

/* /runtime.v1.RuntimeService and /runtime.v1.ImageService: all 43 methods of cri-api 0.37. */
extern const struct rpc_method cri_methods[];
/* /knarr.v1.Knarr: what the CRI has no words for. */
extern const struct rpc_method cri_knarr_methods[];

/* What cAdvisor asks of CRI-O: the answer to GET "/info" or "/containers/ID", of whoever's container or pod. The caller
 * owns *json. ERR_NOT_FOUND, ERR_UNAVAILABLE. Does not block. */
int crio_answer(const struct cri *cri, struct arena *a, struct str path, struct buf *json, struct err *e);

#endif
