/* The rooms beneath src/cri, played: they remember what they were asked and answer what a test says. */
#ifndef KNARR_TESTS_CRI_FAKES_H
#define KNARR_TESTS_CRI_FAKES_H

#include "cri/parts.h"

extern struct fake {
	/* asked */
	struct pod_config pod;
	struct container_config container;
	const char *location;
	struct pod_filter pod_filter;
	struct container_filter container_filter;
	struct config_resources resources;
	char *const *argv;
	int64_t ns;
	struct session_wish wish;
	struct stream_ports ports;
	struct image_pull_request pull;
	const char *removed_image;
	unsigned holds, releases;
	/* answers */
	struct pod_view pods[3];
	struct container_view containers[3];
	size_t npods, ncontainers;
	struct exec_result exec;
	struct image image;
	bool has_image, image_in_use;
	bool not_ready;
	struct pod_metrics metrics;
} fake;

/* Runs a method as the daemon does; the response is ready to read until call_end(c). */
int ask(struct call *c, const char *path, const void *request, void **response, struct err *e);
/* What a streaming method sent, in the order of sending. */
extern const ProtobufCMessage *sent[16];
extern size_t nsent;

#endif
