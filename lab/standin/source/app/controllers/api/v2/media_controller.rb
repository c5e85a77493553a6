# frozen_string_literal: true

class Api::V2::MediaController < Api::V1::MediaController
end
