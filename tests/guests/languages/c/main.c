// Makes the calls to the cluster that it is told, or misbehaves as it is told.
//
// Every run has a fresh instance, whose memory goes with it: nothing is freed.

#include <stdlib.h>

#include "guest.h"
#include "text.h"

static const char *const group = "test.gadgetd", *const plural = "things";

// Misbehaviours. The compiler must not know what comes of them, or it would do it here and now.

static volatile uintptr_t far_away = 0xfffffff0;

static void writes_beyond_memory(void) {
    *(volatile char *)far_away = 1;
}

static void calls_what_is_no_function(void) {
    ((void (*)(void))far_away)();
}

static void calls_with_wrong_arguments(void) {
    void (*volatile emit)(void) = (void (*)(void))gadget_framework_output_emit;
    emit();
}

static volatile int zero = 0;

static void divides_by_zero(void) {
    zero = (int)far_away / zero;
}

static int deeper(volatile char *above) {
    volatile char here[1024] = {above[0]};
    return zero ? 0 : deeper(here) + here[1];
}

static void overflows_its_stack(void) {
    volatile char here = 0;
    deeper(&here);
}

static void allocates(void) {
    for (;;) {
        volatile char *more = malloc(1 << 20);
        if (more == NULL) abort();
        more[0] = 1;
    }
}

static void loops(void) {
    while (!zero) {}
}

static void aborts(void) {
    abort();
}

// The bindings read what this says is a text.
static void lies_about_a_length(void) {
    gadget_framework_kube_list_kind_t found;
    gadget_framework_kube_error_t error;
    guest_string_t lie = {(uint8_t *)far_away, 1000};
    gadget_framework_kube_discover(&lie, &lie, &found, &error);
}

static void sends_what_is_no_text(void) {
    gadget_framework_kube_list_kind_t found;
    gadget_framework_kube_error_t error;
    uint8_t bytes[] = {0xff, 0xfe};
    guest_string_t lie = {bytes, sizeof bytes};
    gadget_framework_kube_discover(&lie, &lie, &found, &error);
}

static const struct {
    const char *name;
    void (*does)(void);
} misbehaviours[] = {
    {"writes-beyond-memory", writes_beyond_memory},
    {"calls-what-is-no-function", calls_what_is_no_function},
    {"calls-with-wrong-arguments", calls_with_wrong_arguments},
    {"divides-by-zero", divides_by_zero},
    {"overflows-its-stack", overflows_its_stack},
    {"allocates", allocates},
    {"loops", loops},
    {"aborts", aborts},
    {"lies-about-a-length", lies_about_a_length},
    {"sends-what-is-no-text", sends_what_is_no_text},
};
enum { MISBEHAVIOURS = sizeof misbehaviours / sizeof *misbehaviours };

void exports_gadget_framework_module_describe(exports_gadget_framework_module_description_t *ret) {
    gadget_framework_params_spec_t *params = calloc(2, sizeof *params);
    params[0].name = copy("calls");
    params[0].help = copy("VERB NAMESPACE NAME, separated by `;`.");
    params[0].kind.tag = GADGET_FRAMEWORK_PARAMS_KIND_TEXT;
    params[1].name = copy("misbehave");
    params[1].help = copy("How.");
    params[1].kind.tag = GADGET_FRAMEWORK_PARAMS_KIND_CHOICE;
    text *choices = calloc(MISBEHAVIOURS, sizeof *choices);
    for (size_t i = 0; i < MISBEHAVIOURS; i++) choices[i] = copy(misbehaviours[i].name);
    params[1].kind.val.choice = (guest_list_string_t){choices, MISBEHAVIOURS};

    static const exports_gadget_framework_module_verb_t all[] = {
        EXPORTS_GADGET_FRAMEWORK_MODULE_VERB_GET,
        EXPORTS_GADGET_FRAMEWORK_MODULE_VERB_LIST,
        EXPORTS_GADGET_FRAMEWORK_MODULE_VERB_CREATE,
        EXPORTS_GADGET_FRAMEWORK_MODULE_VERB_APPLY,
    };
    exports_gadget_framework_module_verb_t *verbs = calloc(4, sizeof *verbs);
    for (size_t i = 0; i < 4; i++) verbs[i] = all[i];
    exports_gadget_framework_module_capability_t *asks = calloc(1, sizeof *asks);
    asks->group = copy(group);
    asks->plural = copy(plural);
    asks->verbs = (exports_gadget_framework_module_list_verb_t){verbs, 4};

    *ret = (exports_gadget_framework_module_description_t){
        .name = copy("guest"),
        .version = copy("1.0.0"),
        .summary = copy("Makes the calls that it is told, or misbehaves."),
        .params = {params, 2},
        .capabilities = {asks, 1},
    };
}

// A parameter of this run, and nothing where it was not given.
static text parameter(const char *name) {
    static gadget_framework_params_list_param_t params;
    gadget_framework_params_all(&params);
    for (size_t i = 0; i < params.len; i++) {
        if (equal(params.ptr[i].name, name)) return params.ptr[i].value.val.text;
    }
    return (text){0};
}

// Takes what stands before the byte, or all, off the text.
static text split(text *from, uint8_t at) {
    text first = {from->ptr, 0};
    while (first.len < from->len && from->ptr[first.len] != at) first.len++;
    size_t gone = first.len < from->len ? first.len + 1 : first.len;
    from->ptr += gone;
    from->len -= gone;
    return first;
}

// What came of a call, in a line.
static void call(text *to, text words) {
    text verb = split(&words, ' '), namespace = split(&words, ' '), name = words;
    bool namespaced = !equal(namespace, "-");
    text *where = namespaced ? &namespace : NULL;
    gadget_framework_kube_kind_t kind = {copy(group), copy("v1"), copy(plural), copy("Thing"), namespaced};
    text thing = copy("{\"apiVersion\": \"test.gadgetd/v1\", \"kind\": \"Thing\", \"metadata\": {\"name\": \"");
    add_text(&thing, name);
    add(&thing, "\"}, \"spec\": {\"by\": \"gadget\"}}");

    gadget_framework_kube_error_t error;
    gadget_framework_kube_list_kind_t kinds;
    guest_list_string_t objects;
    text answer, labels = {0};
    bool ok = false;
    if (equal(verb, "discover")) ok = gadget_framework_kube_discover(&kind.group, &kind.plural, &kinds, &error);
    else if (equal(verb, "get")) ok = gadget_framework_kube_get(&kind, where, &name, &answer, &error);
    else if (equal(verb, "list")) ok = gadget_framework_kube_list(&kind, where, &labels, &objects, &error);
    else if (equal(verb, "create")) ok = gadget_framework_kube_create(&kind, where, &thing, &answer, &error);
    else if (equal(verb, "apply")) ok = gadget_framework_kube_apply(&kind, where, &thing, &answer, &error);
    else abort();
    if (ok) {
        add(to, "ok\n");
        return;
    }
    static const char *const errors[] = {
        [GADGET_FRAMEWORK_KUBE_ERROR_DENIED] = "denied",
        [GADGET_FRAMEWORK_KUBE_ERROR_NOT_FOUND] = "not found",
        [GADGET_FRAMEWORK_KUBE_ERROR_CONFLICT] = "conflict",
        [GADGET_FRAMEWORK_KUBE_ERROR_INVALID] = "invalid",
        [GADGET_FRAMEWORK_KUBE_ERROR_TOO_LARGE] = "too large",
        [GADGET_FRAMEWORK_KUBE_ERROR_UNAVAILABLE] = "unavailable",
        [GADGET_FRAMEWORK_KUBE_ERROR_DEADLINE] = "deadline",
    };
    add(to, errors[error.tag]);
    add(to, ": ");
    if (error.tag == GADGET_FRAMEWORK_KUBE_ERROR_TOO_LARGE) add_number(to, error.val.too_large);
    else add_text(to, error.val.denied);
    add(to, "\n");
}

bool exports_gadget_framework_gadget_generate(exports_gadget_framework_gadget_reason_t reason,
                                              exports_gadget_framework_gadget_list_own_capture_t *captures,
                                              exports_gadget_framework_gadget_error_t *err) {
    (void)reason;
    text misbehave = parameter("misbehave");
    for (size_t i = 0; i < MISBEHAVIOURS; i++) {
        if (equal(misbehave, misbehaviours[i].name)) misbehaviours[i].does();
    }
    text calls = parameter("calls"), said = copy("");
    while (calls.len > 0) call(&said, split(&calls, ';'));

    gadget_framework_captures_borrow_capture_t *about = calloc(captures->len, sizeof *about);
    for (size_t i = 0; i < captures->len; i++) {
        about[i] = gadget_framework_captures_borrow_capture(captures->ptr[i]);
    }
    gadget_framework_output_document_t document = {copy("text/plain"), said};
    gadget_framework_output_list_borrow_capture_t of = {about, captures->len};
    if (!gadget_framework_output_emit(&document, &of, &err->val.output)) {
        err->tag = EXPORTS_GADGET_FRAMEWORK_GADGET_ERROR_OUTPUT;
        return false;
    }
    return true;
}
