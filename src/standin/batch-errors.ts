// The error codes of the stand-in's Batch account, each with its status and text.

/** Status and text of each error code (Azure Batch documentation, "Batch status and error codes"). */
export const ERRORS = {
  AuthenticationFailed: [
    401,
    'Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly.',
  ],
  AuthorizationFailure: [403, 'This request is not authorized to perform this operation.'],
  ConditionNotMet: [412, 'The condition specified using HTTP conditional header(s) is not met.'],
  FileNotFound: [404, 'The specified file does not exist.'],
  InternalError: [500, 'Server encountered an internal error. Please try again after some time.'],
  InvalidHeaderValue: [400, 'The value provided for one of the HTTP headers was not in the correct format.'],
  InvalidInput: [400, 'One of the request inputs is not valid.'],
  InvalidQueryParameterValue: [
    400,
    'Value for one of the query parameters specified in the request URI is invalid.',
  ],
  InvalidRange: [416, 'The range specified is invalid for the current size of the resource.'],
  InvalidRequestBody: [400, 'The specified Request Body is not syntactically valid.'],
  InvalidUri: [400, 'The requested URI does not represent any resource on the server.'],
  JobCompleted: [409, 'The specified job is already in a completed state.'],
  JobExists: [409, 'The specified job already exists.'],
  JobNotFound: [404, 'The specified job does not exist.'],
  MissingContentLengthHeader: [411, 'Content-Length header was not specified.'],
  MissingRequiredProperty: [400, 'A required property was not specified in the request body.'],
  MissingRequiredQueryParameter: [
    400,
    'A query parameter that is mandatory for this request is not specified.',
  ],
  NodeNotFound: [404, 'The specified node does not exist.'],
  PoolExists: [409, 'The specified pool already exists.'],
  PoolNotFound: [404, 'The specified pool does not exist.'],
  RequestBodyTooLarge: [413, 'The size of the request body exceeds the maximum size permitted.'],
  ResourceNotFound: [404, 'The specified resource does not exist.'],
  ServerBusy: [503, 'Server is currently unable to receive requests. Please retry your request.'],
  TaskExists: [409, 'The specified task already exists.'],
  TaskNotFound: [404, 'The specified task does not exist.'],
  TooManyRequests: [429, 'Request failed as server encountered too many requests. Please try again.'],
  UnsupportedHttpVerb: [405, 'The resource does not support the specified HTTP verb.'],
} as const satisfies Record<string, readonly [number, string]>

export type ErrorCode = keyof typeof ERRORS

/** An error answer, thrown where it is found. */
export class BatchError extends Error {
  readonly code: ErrorCode
  readonly values: Readonly<Record<string, string>>
  readonly headers: Readonly<Record<string, string>>

  constructor(
    code: ErrorCode,
    values: Readonly<Record<string, string>> = {},
    headers: Readonly<Record<string, string>> = {},
  ) {
    super(ERRORS[code][1])
    this.code = code
    this.values = values
    this.headers = headers
  }
}

/** What Batch says for a status that was ordered. */
export const ERROR_BY_STATUS: Readonly<Record<number, ErrorCode>> = {
  401: 'AuthenticationFailed',
  403: 'AuthorizationFailure',
  404: 'ResourceNotFound',
  412: 'ConditionNotMet',
  413: 'RequestBodyTooLarge',
  429: 'TooManyRequests',
  500: 'InternalError',
  503: 'ServerBusy',
}
